-- name: insert
-- A run that is about to be queued. Nothing is answered when it is there already: a retry of the same run, or
-- another beat has queued this due instant.
INSERT INTO task_runs (task_id, task, trigger, state, arguments, expires_at, scheduled_for)
VALUES (%(task_id)s::uuid, %(task)s, %(trigger)s, 'PENDING', %(arguments)s::jsonb, %(expires_at)s, %(scheduled_for)s)
ON CONFLICT DO NOTHING
RETURNING task_id

-- name: begin
-- Whoever runs the task says so; a run that nobody announced gets its row here. False when it has ended already.
INSERT INTO task_runs AS run (task_id, task, trigger, state, arguments, started_at)
VALUES (%(task_id)s::uuid, %(task)s, %(trigger)s, 'STARTED', %(arguments)s::jsonb, clock_timestamp())
ON CONFLICT (task_id) DO UPDATE
   SET state = 'STARTED', started_at = coalesce(run.started_at, excluded.started_at)
 WHERE run.state IN ('PENDING', 'STARTED', 'RETRY')
RETURNING task_id

-- name: progress
UPDATE task_runs SET progress = %(progress)s::jsonb WHERE task_id = %(task_id)s::uuid AND state = 'STARTED'

-- name: retry
UPDATE task_runs SET state = 'RETRY', error = %(error)s
 WHERE task_id = %(task_id)s::uuid AND state IN ('PENDING', 'STARTED', 'RETRY')

-- name: finish
UPDATE task_runs
   SET state = %(state)s, result = %(result)s::jsonb, error = %(error)s, finished_at = clock_timestamp()
 WHERE task_id = %(task_id)s::uuid AND state IN ('PENDING', 'STARTED', 'RETRY')

-- name: insert_finished
-- Event batches are recorded when they are done, in the transaction of their patch.
INSERT INTO task_runs (task_id, task, trigger, state, result, error, queued_at, started_at, finished_at)
VALUES (%(task_id)s::uuid, %(task)s, %(trigger)s, %(state)s, %(result)s::jsonb, %(error)s,
        to_timestamp(%(queued_at)s), to_timestamp(%(started_at)s), clock_timestamp())
ON CONFLICT (task_id) DO UPDATE
   SET state = excluded.state, result = excluded.result, error = excluded.error, finished_at = excluded.finished_at

-- name: abandon
-- In-process tasks die with their process.
UPDATE task_runs SET state = 'FAILURE', error = %(error)s, finished_at = clock_timestamp()
 WHERE state IN ('PENDING', 'STARTED', 'RETRY')

-- name: run
SELECT * FROM (
    SELECT task_id, task, trigger,
           CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END AS state,
           progress, result, error, queued_at, started_at,
           CASE WHEN state = 'PENDING' AND expires_at < now() THEN expires_at ELSE finished_at END AS finished_at
      FROM task_runs) AS run
 WHERE task_id = %(task_id)s::uuid

-- name: active
SELECT task_id, task, trigger, state, progress, result, error, queued_at, started_at, finished_at
  FROM task_runs
 WHERE state IN ('PENDING', 'STARTED', 'RETRY')
   AND NOT (state = 'PENDING' AND coalesce(expires_at < now(), false))
 ORDER BY queued_at DESC, task_id DESC
 LIMIT %(limit)s

-- name: history
SELECT * FROM (
    SELECT task_id, task, trigger,
           CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END AS state,
           progress, result, error, queued_at, started_at,
           CASE WHEN state = 'PENDING' AND expires_at < now() THEN expires_at ELSE finished_at END AS finished_at
      FROM task_runs) AS run
 WHERE (%(state)s::text IS NULL OR state = %(state)s)
   AND (%(task)s::text IS NULL OR task = %(task)s)
   AND (%(before)s::uuid IS NULL
        OR (queued_at, task_id) < (SELECT queued_at, task_id FROM task_runs WHERE task_id = %(before)s::uuid))
 ORDER BY queued_at DESC, task_id DESC
 LIMIT %(limit)s

-- name: counts
SELECT task, CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END AS state, count(*)
  FROM task_runs
 WHERE queued_at > now() - interval '1 day'
 GROUP BY 1, 2

-- name: last_due
-- When beat queued each task last, for a beat that starts.
SELECT task, max(scheduled_for) FROM task_runs WHERE scheduled_for IS NOT NULL GROUP BY task

-- name: prune
DELETE FROM task_runs
 WHERE task_id IN (SELECT task_id FROM task_runs
                    WHERE queued_at < now() - CASE trigger WHEN 'event' THEN %(event_hours)s * interval '1 hour'
                                                           ELSE %(days)s * interval '1 day' END
                      AND state NOT IN ('STARTED', 'RETRY')
                    LIMIT %(rows)s)

-- name: prune_patches
DELETE FROM patches WHERE id IN (SELECT id FROM patches WHERE patched_at < now() - %(days)s * interval '1 day' LIMIT %(rows)s)

-- name: prune_removed
DELETE FROM removed_keys AS removed
 WHERE ctid IN (SELECT removed_keys.ctid FROM removed_keys
                 WHERE patch_id < (SELECT coalesce(min(id), 0) FROM patches) LIMIT %(rows)s)
