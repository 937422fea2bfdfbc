-- What adopting asks about tables that belong to others, and what it remembers.

-- name: parts
-- A table with its partitions, sub-partitions and inheritance children, and which of them logical replication writes.
WITH RECURSIVE part AS (
    SELECT %(oid)s::oid AS oid, 0 AS depth
    UNION ALL
    SELECT inhrelid, depth + 1 FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT DISTINCT relation.oid::bigint, namespace.nspname || '.' || relname,
       quote_ident(namespace.nspname) || '.' || quote_ident(relname), relkind,
       EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = relation.oid)
  FROM part JOIN pg_class AS relation USING (oid) JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
 ORDER BY 1

-- name: triggers
-- Triggers of ours, wherever they stand: they call a function of our schema.
SELECT tgrelid::bigint, quote_ident(namespace.nspname) || '.' || quote_ident(relname), tgname, proname, tgenabled
  FROM pg_trigger
  JOIN pg_proc ON pg_proc.oid = tgfoid
  JOIN pg_class ON pg_class.oid = tgrelid
  JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
 WHERE NOT tgisinternal AND tgparentid = 0 AND tgname LIKE 'citycache\_%%'
   AND pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
 ORDER BY 2, 3

-- name: functions
SELECT proname::text, prosrc FROM pg_proc
 WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)

-- name: triggers_of_others
-- Triggers on these tables that have our names, and call a function of another schema.
SELECT quote_ident(namespace.nspname) || '.' || quote_ident(relname), min(tgname), pronamespace::regnamespace::text
  FROM pg_trigger
  JOIN pg_proc ON pg_proc.oid = tgfoid
  JOIN pg_class ON pg_class.oid = tgrelid
  JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
 WHERE NOT tgisinternal AND tgrelid = ANY(%(oids)s::oid[]) AND tgname = ANY(%(names)s)
   AND pronamespace IS DISTINCT FROM (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
 GROUP BY 1, 3 ORDER BY 1, 3

-- name: blockers
-- Who holds up a trigger: what a person would look at.
SELECT string_agg(format('pid %%s (%%s)', pid, coalesce(nullif(application_name, ''), usename, backend_type)), ', ')
  FROM pg_locks JOIN pg_stat_activity USING (pid)
 WHERE relation = %(oid)s AND granted AND pid <> pg_backend_pid()
   AND mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                'AccessExclusiveLock')

-- name: applied
SELECT definition, digest, began_at, applied_at FROM applied_definition

-- name: begin
INSERT INTO applied_definition (definition, digest) VALUES (%(definition)s, %(digest)s)
ON CONFLICT (singleton) DO UPDATE
   SET definition = excluded.definition, digest = excluded.digest, began_at = clock_timestamp(), applied_at = NULL

-- name: finish
WITH noted AS (
    INSERT INTO city_changes (xid) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING
)
UPDATE applied_definition
   SET applied_at = clock_timestamp(), cities_noted_since = clock_timestamp(),
       levels_noted_since = CASE WHEN %(has_shown_levels)s THEN clock_timestamp() END
 WHERE digest = %(digest)s

-- name: relation_exists
SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
                WHERE nspname = %(schema)s AND relname = %(name)s)

-- name: type_exists
SELECT EXISTS (SELECT FROM pg_type JOIN pg_namespace AS namespace ON namespace.oid = typnamespace
                WHERE nspname = %(schema)s AND typname = %(name)s)
