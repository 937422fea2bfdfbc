-- What a database looks like to somebody who has never seen it.

-- name: tables
-- Tables of others with what they say of their columns: name, as SQL writes it, type, whether a unique index holds it
-- alone, whether it is part of the primary key, and the values of an enum. Tables of extensions and of ours are left out.
SELECT relation.oid::bigint, namespace.nspname, relation.relname,
       quote_ident(namespace.nspname) || '.' || quote_ident(relation.relname), quote_ident(relation.relname),
       (WITH RECURSIVE part AS (
            SELECT relation.oid AS oid
            UNION ALL
            SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
        ) SELECT coalesce(sum(greatest(reltuples, 0)), 0) FROM pg_class JOIN part USING (oid) WHERE relkind = 'r')::bigint,
       (SELECT json_agg(json_build_array(attname, quote_ident(attname), format_type(base.oid, NULL),
                   EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indisunique AND indpred IS NULL
                              AND indnkeyatts = 1 AND indkey[0] = attnum),
                   EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indisprimary AND attnum = ANY(indkey)),
                   ARRAY(SELECT enumlabel FROM pg_enum WHERE enumtypid = base.oid ORDER BY enumsortorder)) ORDER BY attnum)
          FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
          JOIN pg_type AS base ON base.oid = coalesce(nullif(pg_type.typbasetype, 0), pg_type.oid)
         WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped)
  FROM pg_class AS relation JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
 WHERE relkind IN ('r', 'p') AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%%'
   AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = relation.oid)
   AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = namespace.oid AND relname = 'applied_definition')
   AND NOT EXISTS (SELECT FROM pg_depend
                    WHERE classid = 'pg_class'::regclass AND objid = relation.oid AND deptype = 'e')
 ORDER BY 6 DESC, 2, 3

-- name: references
-- Foreign keys of one column.
SELECT conrelid::bigint, confrelid::bigint, attname
  FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
 WHERE contype = 'f' AND cardinality(conkey) = 1 AND conparentid = 0
 ORDER BY conrelid, attnum
