-- What a database looks like to somebody who has never seen it.

-- name: tables
-- Tables of others with their columns, and the key where it is one integer column.
SELECT relation.oid::bigint, namespace.nspname || '.' || relation.relname AS name, relation.relname,
       greatest(relation.reltuples, 0)::bigint AS rows,
       (SELECT jsonb_object_agg(attname, format_type(atttypid, NULL)) FROM pg_attribute
         WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped) AS columns,
       (SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
         WHERE indrelid = relation.oid AND indisprimary AND indnkeyatts = 1) AS key
  FROM pg_class AS relation JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
 WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname NOT IN ('pg_catalog', 'information_schema')
   AND nspname NOT LIKE 'pg\_%%'
 ORDER BY rows DESC, name

-- name: references
-- Foreign keys of one column.
SELECT conrelid::bigint, confrelid::bigint, attname
  FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
 WHERE contype = 'f' AND cardinality(conkey) = 1 AND conparentid = 0
 ORDER BY conrelid, attnum
