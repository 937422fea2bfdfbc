-- Whether capture sees all that is written: tables and columns that are gone, and triggers that lack, are off, or do not fire.

-- name: knows_tables
-- Whether something has been adopted.
SELECT to_regprocedure('captured_tables()') IS NOT NULL

-- name: knows_shown_tables
SELECT to_regprocedure('shown_tables()') IS NOT NULL

-- name: missing_tables
SELECT DISTINCT table_name FROM captured_tables() WHERE to_regclass(table_name) IS NULL ORDER BY 1

-- name: missing_columns
-- Of tables that are there.
SELECT table_name, name
  FROM captured_tables() CROSS JOIN unnest(columns) AS name
 WHERE to_regclass(table_name) IS NOT NULL
   AND NOT EXISTS (SELECT FROM pg_attribute
                    WHERE attrelid = to_regclass(table_name) AND attname = name AND NOT attisdropped)
 ORDER BY 1, 2

-- name: silent_tables
-- Tables, partitions and children whose triggers lack or are switched off. Where logical replication writes any of them
-- each row has to fire, always; elsewhere each statement. One that calls a function of another schema is not ours.
WITH RECURSIVE captured AS (
    SELECT role, to_regclass(table_name)::oid AS root FROM captured_tables()
), part AS (
    SELECT role, root, root AS oid FROM captured WHERE root IS NOT NULL
    UNION ALL
    SELECT role, root, inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
), formed AS (
    SELECT role, root, EXISTS (SELECT FROM part JOIN pg_subscription_rel ON srrelid = part.oid
                                WHERE (part.role, part.root) = (captured.role, captured.root)) AS by_row
      FROM captured
), wanted AS (
    SELECT DISTINCT role, part.oid, verb, CASE WHEN by_row THEN 'A' ELSE 'O' END AS enabled
      FROM part JOIN formed USING (role, root) JOIN pg_class AS relation ON relation.oid = part.oid
     CROSS JOIN unnest(ARRAY['inserted', 'updated', 'deleted', 'row', 'truncated']) AS verb
     WHERE relkind IN ('r', 'p') AND CASE WHEN NOT by_row THEN verb <> 'row'
                                          WHEN relkind = 'p' THEN verb = 'truncated'
                                          ELSE verb IN ('row', 'truncated') END
)
SELECT wanted.oid::regclass::text, bool_or(tgname IS NOT NULL)
  FROM wanted
  LEFT JOIN (pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
               AND pronamespace = (SELECT own.pronamespace FROM pg_proc AS own WHERE own.oid = 'captured_tables()'::regprocedure))
    ON tgrelid = wanted.oid AND tgname = 'citycache_' || role || '_' || verb
 WHERE tgname IS NULL OR tgenabled NOT IN (wanted.enabled::"char", 'A')
 GROUP BY 1 ORDER BY 1

-- name: passed_tables
SELECT table_name, sum(rows)::bigint FROM passed_tables
 WHERE found_at > now() - interval '10 minutes' GROUP BY table_name ORDER BY table_name

-- name: parts
WITH RECURSIVE part AS (
    SELECT to_regclass(table_name)::oid AS oid FROM captured_tables()
    UNION
    SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT oid::bigint, oid::regclass::text AS name FROM part WHERE oid IS NOT NULL

-- name: applied_digest
SELECT digest FROM applied_definition WHERE applied_at IS NOT NULL
