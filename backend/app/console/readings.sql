-- The way of an event as the database knows it; asked each second while somebody looks. Ranges of
-- time begin at now() and an age: clock_timestamp() is volatile, and no index serves a volatile bound.

-- name: stored
-- The way of an event as far as the database knows it. The outbox is counted up to a limit, and beyond it estimated
-- from its ids; the canary's rows count like all others.
WITH outbox AS (
    SELECT min(id) AS first_id, count(*) AS counted FROM (SELECT id FROM event_outbox ORDER BY id LIMIT 20001) AS part
), last AS (
    SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('event_outbox', 'id')::regclass), 0) AS id
), wide AS (
    SELECT count(*) AS companies, min(requested_at) AS since FROM wide_requests
), applied AS (
    SELECT sum((result ->> 'events')::bigint) AS events, sum((result ->> 'patched')::bigint) AS changed
      FROM task_runs
     WHERE task = 'apply_catalog_events' AND state = 'SUCCESS'
       AND queued_at > now() - interval '30 seconds'
       AND finished_at > now() - %(window)s * interval '1 second'
), canary AS (
    SELECT canary_ms, at FROM observations
     WHERE canary_ms IS NOT NULL AND at > now() - interval '1 day' ORDER BY at DESC LIMIT 1
)
SELECT last.id AS last_id,
       coalesce(outbox.first_id, last.id + 1) AS first_waiting,
       CASE WHEN outbox.counted > 20000 THEN last.id - outbox.first_id + 1 ELSE outbox.counted END AS outbox_rows,
       extract(epoch FROM clock_timestamp() - (SELECT occurred_at FROM event_outbox WHERE id = outbox.first_id))::float8
           AS outbox_seconds,
       EXISTS (SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND classid = 0 AND objid = %(leader_lock)s AND objsubid = 1 AND granted
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS relay_leads,
       wide.companies AS wide_companies,
       extract(epoch FROM clock_timestamp() - wide.since)::float8 AS wide_seconds,
       coalesce(applied.events, 0)::bigint AS applied,
       coalesce(applied.changed, 0)::bigint AS changed,
       extract(epoch FROM clock_timestamp() - (SELECT max(patched_at) FROM patches))::float8 AS changed_seconds,
       (SELECT canary_ms FROM canary) AS canary_ms,
       extract(epoch FROM clock_timestamp() - (SELECT at FROM canary))::float8 AS canary_seconds
  FROM outbox, last, wide, applied

-- name: latency
-- Histograms of the last minute.
SELECT latency FROM observations WHERE at > now() - interval '1 minute'
