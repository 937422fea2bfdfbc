-- What the doctor asks.

-- name: is_looked_at
-- Whether an observer has written lately, and its auditor as well.
SELECT EXISTS (SELECT FROM observations WHERE at > now() - %(observed)s * interval '1 second')
   AND EXISTS (SELECT FROM audit_minutes WHERE minute > now() - %(audited)s * interval '1 second')

-- name: silent_notes
-- Tables of ours whose changes are not noted.
SELECT DISTINCT relname::text
  FROM pg_class AS ours
 CROSS JOIN unnest(ARRAY['insert', 'update', 'delete', 'truncate']) AS verb
  LEFT JOIN pg_trigger ON tgrelid = ours.oid AND tgname = 'note_city_' || verb
 WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'city_counts'::regclass)
   AND relname IN ('cities', 'city_counts', 'active_cities_cache') AND relkind = 'r' AND tgenabled IS DISTINCT FROM 'A'
 ORDER BY 1

-- name: built_in_triggers
-- Those of the built-in catalog that lack or do not fire.
SELECT wanted.name, 'capture_' || verb
  FROM (VALUES ('cities', 'inserted'), ('cities', 'updated'), ('cities', 'deleted'),
               ('companies', 'inserted'), ('companies', 'updated'), ('companies', 'deleted'), ('companies', 'truncated'),
               ('products', 'inserted'), ('products', 'updated'), ('products', 'deleted'), ('products', 'truncated'))
       AS wanted (name, verb)
  LEFT JOIN pg_trigger ON tgrelid = to_regclass(wanted.name) AND tgname = 'capture_' || verb
 WHERE tgname IS NULL OR tgenabled NOT IN ('O', 'A')
 ORDER BY 1, 2
