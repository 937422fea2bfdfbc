-- name: limit
-- Deadlines of this transaction; one that this server does not know is left out.
SELECT pg_catalog.set_config(name, value, true)
  FROM ROWS FROM (pg_catalog.unnest(%(names)s::text[]), pg_catalog.unnest(%(values)s::text[])) AS wanted (name, value)
 WHERE pg_catalog.current_setting(name, true) IS NOT NULL

-- name: keep
SELECT pg_catalog.set_config('citycache.statements', %(statements)s, true)

-- name: run
-- In a block the server takes no statement that would end the transaction, wherever it stands in the text.
DO $run$ BEGIN EXECUTE pg_catalog.current_setting('citycache.statements'); END $run$

-- name: end
-- What a commit would do first.
SET CONSTRAINTS ALL IMMEDIATE

-- name: own_role
RESET SESSION AUTHORIZATION;
RESET ROLE
