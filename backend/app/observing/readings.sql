-- name: wide_patches
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(requested_at)), 0)::float8 FROM wide_requests

-- name: dead_letters
SELECT kind, count(*) FROM dead_letters WHERE closed_at IS NULL GROUP BY kind

-- name: scheduled
SELECT task, extract(epoch FROM clock_timestamp() - max(scheduled_for))::float8
  FROM task_runs WHERE scheduled_for <= clock_timestamp() AND NOT (state = 'PENDING' AND error IS NOT NULL) GROUP BY task

-- name: histories
-- The first entry of an index each.
SELECT 'event_runs', extract(epoch FROM clock_timestamp() - min(queued_at))::float8
  FROM task_runs WHERE task = 'apply_catalog_events'
UNION ALL SELECT 'patches', extract(epoch FROM clock_timestamp() - min(patched_at))::float8 FROM patches
UNION ALL SELECT 'audit_log', extract(epoch FROM clock_timestamp() - min(at))::float8 FROM audit_log

-- name: canary
-- The last one that arrived, and how long ago.
SELECT canary_ms, extract(epoch FROM clock_timestamp() - at)::float8
  FROM observations WHERE canary_ms IS NOT NULL ORDER BY at DESC LIMIT 1

-- name: observed
-- Histograms of the last minutes, and the age of the last row.
SELECT coalesce(jsonb_agg(latency) FILTER (WHERE at > clock_timestamp() - interval '5 minutes'), '[]'),
       (SELECT extract(epoch FROM clock_timestamp() - max(at))::float8 FROM observations)
  FROM observations WHERE at > clock_timestamp() - interval '5 minutes'

-- name: findings
-- A counter: pruning does not lower it.
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('audit_findings', 'id')::regclass), 0)
