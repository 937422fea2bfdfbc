-- name: companies_of
SELECT count(*) FROM (SELECT FROM companies WHERE city_id = %(id)s LIMIT %(rows)s) AS part

-- name: products_of
SELECT count(*) FROM (SELECT FROM products WHERE company_id = %(id)s LIMIT %(rows)s) AS part

-- name: under_way
SELECT task_id::text FROM task_runs
 WHERE task = %(task)s AND arguments ->> 'id' = %(id)s AND state IN ('PENDING', 'STARTED', 'RETRY')
 ORDER BY queued_at LIMIT 1

-- name: trace
SELECT set_config('citycache.traceparent', %(value)s, true)

-- name: delete
DELETE FROM {table} WHERE id = %(id)s
