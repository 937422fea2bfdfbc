-- Attempts to apply one message alone; see attempts.py.

-- name: begin
INSERT INTO task_runs (task_id, task, trigger, state, arguments, started_at)
VALUES (%(task_id)s::uuid, 'apply_catalog_events', 'event', 'STARTED',
        jsonb_build_object('message', CAST(%(message)s AS text)), clock_timestamp())
ON CONFLICT (task_id) DO NOTHING

-- name: deaths
-- Attempts that have begun and not ended. Those of more than a day ago belong to another trouble.
SELECT count(*) FROM task_runs
 WHERE state IN ('PENDING', 'STARTED', 'RETRY') AND state = 'STARTED' AND task = 'apply_catalog_events'
   AND arguments ->> 'message' = %(message)s AND task_id <> %(task_id)s::uuid
   AND queued_at > now() - interval '1 day'

-- name: end
UPDATE task_runs SET state = 'REVOKED', error = %(error)s, finished_at = clock_timestamp()
 WHERE task_id = ANY(%(task_ids)s::uuid[]) AND state = 'STARTED'

-- name: survive
UPDATE task_runs SET state = 'FAILURE', error = %(error)s, finished_at = clock_timestamp()
 WHERE state IN ('PENDING', 'STARTED', 'RETRY') AND state = 'STARTED' AND task = 'apply_catalog_events'
   AND arguments ->> 'message' = %(message)s
