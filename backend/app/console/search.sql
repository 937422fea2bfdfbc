-- What somebody may mean by a few letters. Each statement has little time of its own: beside a catalog that was adopted,
-- its owner decides whether there is an index. {view} is one of catalog_cities, catalog_companies, catalog_products.

-- name: limit
SELECT set_config('statement_timeout', CAST(%(ms)s AS text), true)

-- name: by_id
-- The row with this id or external id.
SELECT id::text, name, external_id FROM {view} WHERE id = CAST(%(id)s AS bigint)
UNION
SELECT id::text, name, external_id FROM {view} WHERE external_id = %(text)s
 LIMIT %(limit)s

-- name: by_name
-- Names that begin like this, in the order of the index, which has their beginnings: a name may have any length.
SELECT id::text, name, external_id
  FROM {view}
 WHERE lower(left(name, 100)) LIKE lower(%(prefix)s)
 ORDER BY lower(left(name, 100)) USING ~<~
 LIMIT %(limit)s

-- name: runs
-- Runs whose ids lie between these.
SELECT task_id::text, task, CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END, queued_at
  FROM task_runs
 WHERE task_id BETWEEN %(first)s::uuid AND %(last)s::uuid
 ORDER BY task_id
 LIMIT %(limit)s

-- name: waiting_events
-- An event among the oldest that wait in the outbox.
SELECT event_id::text, subject, NULL::text, occurred_at
  FROM (SELECT event_id, subject, occurred_at FROM event_outbox ORDER BY id LIMIT %(most)s) AS oldest
 WHERE event_id = %(event)s::uuid

-- name: patched_events
-- An event among those of the newest patches, with the run that applied it.
SELECT %(event)s, subjects[array_position(event_ids, %(event)s)], task_id::text, patched_at
  FROM (SELECT subjects, event_ids, task_id, patched_at FROM patches ORDER BY id DESC LIMIT %(most)s) AS newest
 WHERE %(event)s = ANY (event_ids)
 LIMIT %(limit)s

-- name: buried_events
-- An event among the newest letters that are open.
SELECT event_id, subject, NULL::text, buried_at
  FROM (SELECT event_id, subject, buried_at FROM dead_letters WHERE closed_at IS NULL ORDER BY id DESC LIMIT %(most)s) AS newest
 WHERE event_id = %(event)s
 LIMIT %(limit)s
