-- What is taken away, and what stands in the way.

-- name: leaning
-- What others have made upon our tables, views and functions: it would go with them.
WITH own AS (
    SELECT oid AS schema FROM pg_namespace WHERE nspname = %(schema)s
), leaning AS (
    SELECT ev_class AS oid
      FROM own JOIN pg_class AS relation ON relation.relnamespace = schema
      JOIN pg_depend ON refclassid = 'pg_class'::regclass AND refobjid = relation.oid AND classid = 'pg_rewrite'::regclass
      JOIN pg_rewrite ON pg_rewrite.oid = objid
    UNION
    SELECT ev_class
      FROM own JOIN pg_proc ON pronamespace = schema
      JOIN pg_depend ON refclassid = 'pg_proc'::regclass AND refobjid = pg_proc.oid AND classid = 'pg_rewrite'::regclass
      JOIN pg_rewrite ON pg_rewrite.oid = objid
    UNION
    SELECT conrelid FROM own JOIN pg_class AS relation ON relation.relnamespace = schema
      JOIN pg_constraint ON confrelid = relation.oid
)
SELECT namespace.nspname || '.' || relname
  FROM leaning JOIN pg_class USING (oid) JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
 WHERE nspname <> %(schema)s ORDER BY 1

-- name: of_others
-- Tables of others in our schema: where a role is called like it, "$user" in a search path makes them there.
SELECT quote_ident(nspname) || '.' || quote_ident(relname)
  FROM pg_class AS relation JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
 WHERE nspname = %(schema)s AND relkind IN ('r', 'p', 'f', 'm') AND NOT relispartition AND NOT relname = ANY(%(ours)s)
 ORDER BY 1

-- name: is_of_our_making
SELECT coalesce(obj_description(to_regnamespace(quote_ident(%(schema)s)), 'pg_namespace') = %(made)s, false)

-- name: contents
-- Statements that empty a schema which was there before. Sequences go with their columns.
WITH own AS (
    SELECT oid AS schema, nspname AS name FROM pg_namespace WHERE nspname = %(schema)s
)
SELECT format('DROP %%s IF EXISTS %%I.%%I CASCADE',
              CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, name, relname)
  FROM own JOIN pg_class ON relnamespace = schema
 WHERE relkind IN ('r', 'p', 'v', 'S')
   AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                      AND deptype IN ('a', 'i') AND refobjsubid > 0)
UNION ALL
SELECT format('DROP FUNCTION IF EXISTS %%I.%%I(%%s) CASCADE', name, proname, pg_get_function_identity_arguments(pg_proc.oid))
  FROM own JOIN pg_proc ON pronamespace = schema
UNION ALL
SELECT format('DROP TYPE IF EXISTS %%I.%%I CASCADE', name, typname)
  FROM own JOIN pg_type ON typnamespace = schema WHERE typtype = 'e'
