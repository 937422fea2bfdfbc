-- name: insert
-- A run that is about to be queued. Nothing is answered when it is there already: a retry of the same run.
INSERT INTO task_runs (task_id, task, trigger, state, arguments, expires_at)
VALUES (%(task_id)s::uuid, %(task)s, %(trigger)s, 'PENDING', %(arguments)s::jsonb,
        clock_timestamp() + %(expires)s * interval '1 second')
ON CONFLICT DO NOTHING
RETURNING task_id

-- name: insert_due
-- The run of a due instant, and its error until the broker has it. Nothing is answered when another beat has it.
INSERT INTO task_runs AS run (task_id, task, trigger, state, arguments, expires_at, scheduled_for, error, progress)
VALUES (%(task_id)s::uuid, %(task)s, %(trigger)s, 'PENDING', %(arguments)s::jsonb,
        clock_timestamp() + %(expires)s * interval '1 second', %(scheduled_for)s, 'not queued yet', '{"attempts": 1}')
ON CONFLICT (task, scheduled_for) WHERE scheduled_for IS NOT NULL DO UPDATE
   SET expires_at = excluded.expires_at, queued_at = clock_timestamp(),
       progress = jsonb_build_object('attempts', coalesce((run.progress ->> 'attempts')::bigint, 0) + 1)
 WHERE run.state = 'PENDING' AND run.error IS NOT NULL
   AND (run.task_id = excluded.task_id
        OR run.queued_at NOT BETWEEN clock_timestamp() - %(lease)s * interval '1 second' AND clock_timestamp())
RETURNING task_id

-- name: is_being_queued
SELECT EXISTS (SELECT FROM task_runs WHERE task = %(task)s AND scheduled_for = %(scheduled_for)s
                  AND state = 'PENDING' AND error IS NOT NULL)

-- name: forget_ahead
-- Instants that have not come were named by a clock that was wrong; left there, they would be taken for queued.
UPDATE task_runs SET scheduled_for = NULL
 WHERE task = %(task)s AND scheduled_for > clock_timestamp() + %(ahead)s * interval '1 second'

-- name: queued
-- A worker may have begun it meanwhile.
UPDATE task_runs SET error = NULL, progress = CASE WHEN state = 'PENDING' THEN NULL ELSE progress END
 WHERE task_id = %(task_id)s::uuid AND error LIKE 'not queued%%'

-- name: not_queued
UPDATE task_runs SET error = %(error)s WHERE task_id = %(task_id)s::uuid AND state = 'PENDING'

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

-- name: arguments
SELECT arguments FROM task_runs WHERE task_id = %(task_id)s::uuid

-- name: active
SELECT task_id, task, trigger, state, progress, result, error, queued_at, started_at, finished_at
  FROM task_runs
 WHERE state IN ('PENDING', 'STARTED', 'RETRY')
   AND NOT (state = 'PENDING' AND coalesce(expires_at < now(), false))
 ORDER BY queued_at DESC, task_id DESC
 LIMIT %(limit)s

-- name: history
SELECT task_id, task, trigger,
       CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END AS state,
       progress, result, error, queued_at, started_at,
       CASE WHEN state = 'PENDING' AND expires_at < now() THEN expires_at ELSE finished_at END AS finished_at
  FROM task_runs
 WHERE (CAST(%(state)s AS text) IS NULL
        OR state = %(state)s AND NOT (state = 'PENDING' AND coalesce(expires_at < now(), false))
        OR %(state)s = 'EXPIRED' AND state = 'PENDING' AND expires_at < now())
   AND (CAST(%(task)s AS text) IS NULL OR task = %(task)s)
   AND (%(before)s::uuid IS NULL
        OR (queued_at, task_id) < (SELECT queued_at, task_id FROM task_runs WHERE task_id = %(before)s::uuid))
 ORDER BY queued_at DESC, task_id DESC
 LIMIT %(limit)s

-- name: counts
-- Of each task, runs of the last day, counted no farther than %(most)s, and those that did not succeed by their state.
-- The names are found by skipping from one to the next in their index.
WITH RECURSIVE named (task) AS (
    (SELECT task FROM task_runs ORDER BY task LIMIT 1)
    UNION ALL
    SELECT (SELECT task FROM task_runs WHERE task > named.task ORDER BY task LIMIT 1) FROM named WHERE named.task IS NOT NULL)
SELECT task,
       (SELECT count(*) FROM (SELECT FROM task_runs AS run
                               WHERE run.task = named.task AND queued_at > now() - interval '1 day' LIMIT %(most)s) AS run),
       (SELECT coalesce(jsonb_object_agg(state, runs), '{}')
          FROM (SELECT CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END AS state,
                       count(*) AS runs
                  FROM (SELECT state, expires_at FROM task_runs AS run
                         WHERE run.task = named.task AND queued_at > now() - interval '1 day' AND state <> 'SUCCESS'
                         LIMIT %(most)s) AS run
                 GROUP BY 1) AS others)
  FROM named WHERE task IS NOT NULL

-- name: about
-- What the planner expects, from its statistics.
EXPLAIN (FORMAT JSON) SELECT FROM task_runs WHERE task = %(task)s AND queued_at > now() - interval '1 day'

-- name: last_due
-- When each scheduled task was due last and queued. One that beat could not queue is still due.
SELECT task, max(scheduled_for) FROM task_runs
 WHERE scheduled_for <= clock_timestamp() AND NOT (state = 'PENDING' AND error IS NOT NULL)
 GROUP BY task

-- name: failing_schedules
SELECT task, count(*) FILTER (WHERE failed AND scheduled_for > coalesce(well_at, '-infinity'))
  FROM (SELECT task, scheduled_for,
               max(scheduled_for) FILTER (WHERE state IN ('SUCCESS', 'SKIPPED')) OVER (PARTITION BY task) AS well_at,
               state IN ('FAILURE', 'REVOKED')
               OR state = 'PENDING' AND coalesce(expires_at < now(), false)
               OR state = 'PENDING' AND error IS NOT NULL AND coalesce((progress ->> 'attempts')::bigint, 0) > 1 AS failed
          FROM task_runs
         WHERE scheduled_for BETWEEN now() - interval '2 days' AND now()) AS run
 GROUP BY task
