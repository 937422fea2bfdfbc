-- name: note
-- The comment of Alembic's table; no row where there is no such table.
SELECT obj_description(version_table, 'pg_class')
FROM to_regclass(%(table)s) AS version_table
WHERE version_table IS NOT NULL;

-- name: is_there
SELECT to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL
