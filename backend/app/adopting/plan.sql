-- What a plan asks about the server and the tables.

-- name: server
SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(),
       has_database_privilege(current_database(), 'CREATE')

-- name: schema
-- Whether it is there, whether it is ours or empty, and whether this role may make things in it.
SELECT to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL,
       EXISTS (SELECT FROM pg_class JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
                WHERE nspname = %(schema)s AND relname = 'applied_definition')
       OR NOT EXISTS (SELECT FROM pg_class JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
                       WHERE nspname = %(schema)s)
       AND NOT EXISTS (SELECT FROM pg_proc JOIN pg_namespace AS namespace ON namespace.oid = pronamespace
                        WHERE nspname = %(schema)s)
       AND NOT EXISTS (SELECT FROM pg_type JOIN pg_namespace AS namespace ON namespace.oid = typnamespace
                        WHERE nspname = %(schema)s),
       coalesce(has_schema_privilege(to_regnamespace(quote_ident(%(schema)s)), 'CREATE')
                AND has_schema_privilege(to_regnamespace(quote_ident(%(schema)s)), 'USAGE'), true)

-- name: table
-- Whether this role owns it, whether rows are hidden from it, and whether a crash of the server empties it.
SELECT pg_has_role(relowner, 'USAGE'), row_security_active(oid), relpersistence = 'u' FROM pg_class WHERE oid = %(oid)s

-- name: is_a_role
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(schema)s AND rolcanlogin)

-- name: publications_of_all
SELECT quote_ident(pubname) FROM pg_publication WHERE puballtables ORDER BY 1

-- name: types_elsewhere
-- Of these columns, those of an extension's type in a schema where no expression looks for its operators.
SELECT quote_ident(attname), atttypid::regtype::text, quote_ident(namespace.nspname)
  FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid JOIN pg_namespace AS namespace ON namespace.oid = typnamespace
 WHERE attrelid = %(oid)s AND attname = ANY(%(columns)s) AND typtype = 'b' AND typelem = 0
   AND NOT namespace.nspname = ANY(current_schemas(true))
 ORDER BY attnum

-- name: rows
WITH RECURSIVE part AS (
    SELECT %(oid)s::oid AS oid
    UNION ALL
    SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class JOIN part USING (oid) WHERE relkind = 'r'

-- name: is_unique
-- Whether an index says that there is one row for each id; on a partitioned table none can, unless by its key, and none
-- sees rows of children.
SELECT EXISTS (SELECT FROM pg_index JOIN pg_class AS relation ON relation.oid = indrelid
                WHERE indrelid = %(oid)s AND (relation.relkind = 'p' OR NOT relhassubclass) AND indisunique AND indisvalid AND indpred IS NULL
                  AND indnkeyatts = 1 AND indkey[0] = (SELECT attnum FROM pg_attribute
                                                        WHERE attrelid = %(oid)s AND attname = %(column)s))

-- name: leads_an_index
SELECT EXISTS (SELECT FROM pg_index
                WHERE indrelid = %(oid)s AND indisvalid AND indpred IS NULL
                  AND indkey[0] = (SELECT attnum FROM pg_attribute WHERE attrelid = %(oid)s AND attname = %(column)s))
