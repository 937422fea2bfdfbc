-- What the console reads. Every statement is short: several run each second while somebody looks. Ranges of time begin
-- at now() and an age: clock_timestamp() is volatile, and no index serves a volatile bound.

-- name: stored
-- The way of an event as far as the database knows it. The outbox is counted up to a limit, and beyond it estimated
-- from its ids; the canary's reserved rows count like all others.
WITH outbox AS (
    SELECT min(id) AS first_id, count(*) AS counted FROM (SELECT id FROM event_outbox ORDER BY id LIMIT 20001) AS part
), last AS (
    SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('event_outbox', 'id')::regclass), 0) AS id
), wide AS (
    SELECT count(*) AS companies, min(requested_at) AS since FROM wide_patches
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

-- name: past
-- Buckets of equal length, oldest first. The columns of a histogram are summed one by one: 20 times as fast as unnesting
-- a week of them.
SELECT date_bin(%(step)s * interval '1 second', at, 'epoch') AS bucket, sum(seconds), sum(captured)::bigint,
       sum(applied)::bigint, max(outbox_rows), max(queue_ready + queue_held), max(canary_ms),
       ARRAY[sum(latency[1]), sum(latency[2]), sum(latency[3]), sum(latency[4]), sum(latency[5]), sum(latency[6]),
             sum(latency[7]), sum(latency[8]), sum(latency[9]), sum(latency[10]), sum(latency[11]), sum(latency[12]),
             sum(latency[13]), sum(latency[14]), sum(latency[15]), sum(latency[16]), sum(latency[17]), sum(latency[18]),
             sum(latency[19]), sum(latency[20]), sum(latency[21]), sum(latency[22]), sum(latency[23])]::bigint[]
  FROM observations
 WHERE at > now() - %(hours)s * interval '1 hour'
 GROUP BY 1 ORDER BY 1

-- name: cities
-- All cities that readers see, with their counts.
SELECT city.id, city.name, city.latitude, city.longitude, coalesce(products_count, 0), coalesce(services_count, 0),
       coalesce(companies_count, 0)
  FROM cities AS city LEFT JOIN city_counts AS counted ON counted.city_id = city.id
 WHERE city.id >= 0
 ORDER BY city.id

-- name: counts_mark
-- Whether rows came or went, and until when changes are known.
SELECT count(*), coalesce(sum(city_id), 0)::bigint, clock_timestamp() FROM city_counts WHERE city_id >= 0

-- name: counts_changed
-- Rows that changed since an instant. An instant is the begin of the transaction that changed them, which may commit
-- later: ask with an overlap.
SELECT city.id, city.name, city.latitude, city.longitude, products_count, services_count, companies_count
  FROM city_counts AS counted JOIN cities AS city ON city.id = counted.city_id
 WHERE counted.updated_at > %(since)s AND counted.city_id >= 0

-- name: recent_runs
-- The newest runs of each of these tasks, so that a day of event batches need not be read to find them.
SELECT run.*
  FROM unnest(%(tasks)s::text[]) AS wanted (name)
 CROSS JOIN LATERAL (
       SELECT task_id, task, trigger,
              CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END AS state,
              progress, result, error, queued_at, started_at,
              CASE WHEN state = 'PENDING' AND expires_at < now() THEN expires_at ELSE finished_at END AS finished_at
         FROM task_runs WHERE task = wanted.name
        ORDER BY queued_at DESC LIMIT %(limit)s) AS run
 ORDER BY run.queued_at DESC, run.task_id DESC
 LIMIT %(limit)s

-- name: buried
-- Open dead letters by kind; their reasons quote what others have written and are shown to holders of the key only.
SELECT kind, count(*), max(buried_at) FROM dead_letters WHERE closed_at IS NULL GROUP BY kind ORDER BY kind
