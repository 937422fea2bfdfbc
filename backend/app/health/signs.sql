-- What the database knows of how things are; asked every few seconds, so nothing here counts a history.

-- name: stored
WITH outbox AS (
    SELECT id, occurred_at FROM event_outbox ORDER BY id LIMIT 1
), wide AS (
    SELECT count(*) AS companies, max(wide_patches::text) AS mark FROM (SELECT * FROM wide_patches LIMIT 1000) AS wide_patches
), canary AS (
    SELECT canary_ms, at FROM observations
     WHERE canary_ms IS NOT NULL AND at > now() - interval '1 day' ORDER BY at DESC LIMIT 1
), lately AS (
    SELECT at, at - lag(at) OVER (ORDER BY at) AS pause FROM observations
     WHERE at > now() - (%(awaited)s + %(observed)s) * interval '1 second'
)
SELECT (SELECT id FROM outbox) AS outbox_first,
       EXISTS (SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND classid = 0 AND objid = %(leader_lock)s AND objsubid = 1 AND granted
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS relay_leads,
       wide.companies AS wide_companies, wide.mark AS wide_mark,
       (SELECT task_id::text FROM task_runs WHERE task = 'apply_catalog_events'
         ORDER BY queued_at DESC LIMIT 1) AS last_batch,
       (SELECT count(*) FROM (SELECT FROM dead_letters WHERE closed_at IS NULL LIMIT 10001) AS part) AS letters,
       (SELECT count(*) FROM (SELECT FROM audit_findings WHERE repaired_at IS NULL LIMIT 10001) AS part) AS rows_wrong,
       (SELECT extract(epoch FROM now() - at)::float8 FROM canary) AS canary_seconds,
       (SELECT extract(epoch FROM now() - max(at))::float8 FROM observations) AS observed_seconds,
       (SELECT coalesce(min(at) <= now() - %(awaited)s * interval '1 second'
                        AND max(pause) <= %(observed)s * interval '1 second', false) FROM lately) AS is_observed_for_long
  FROM wide

-- name: latency
-- Histograms of the last minute.
SELECT latency FROM observations WHERE at > now() - interval '1 minute'

-- name: scheduled
-- The newest scheduled run of each of these tasks that is not in the future.
SELECT wanted.task, run.scheduled_for, run.state, left(run.error, 300) AS error
  FROM unnest(%(tasks)s::text[]) AS wanted (task)
  LEFT JOIN LATERAL (
       SELECT scheduled_for, error,
              CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END AS state
         FROM task_runs
        WHERE task_runs.task = wanted.task AND scheduled_for <= now()
        ORDER BY scheduled_for DESC LIMIT 1) AS run ON true
