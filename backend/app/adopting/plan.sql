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
-- Whether this role owns it, whether rows may be hidden from it, and whether a crash of the server empties it.
SELECT pg_has_role(relowner, 'USAGE'), relrowsecurity AND relforcerowsecurity, relpersistence = 'u' FROM pg_class WHERE oid = %(oid)s

-- name: rows
WITH RECURSIVE part AS (
    SELECT %(oid)s::oid AS oid
    UNION ALL
    SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class JOIN part USING (oid) WHERE relkind = 'r'

-- name: is_unique
-- Whether an index says that there is one row for each id; on a partitioned table none can, unless by its key.
SELECT EXISTS (SELECT FROM pg_index
                WHERE indrelid = %(oid)s AND indisunique AND indisvalid AND indpred IS NULL
                  AND indnkeyatts = 1 AND indkey[0] = (SELECT attnum FROM pg_attribute
                                                        WHERE attrelid = %(oid)s AND attname = %(column)s))

-- name: leads_an_index
SELECT EXISTS (SELECT FROM pg_index
                WHERE indrelid = %(oid)s AND indisvalid AND indpred IS NULL
                  AND indkey[0] = (SELECT attnum FROM pg_attribute WHERE attrelid = %(oid)s AND attname = %(column)s))
