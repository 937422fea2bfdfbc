-- Sections of the console: history, runs, dead letters.

-- name: past
-- Buckets of equal length, oldest first. The columns of a histogram are summed one by one: 20 times as fast as unnesting
-- a week of them.
SELECT date_bin(%(step)s * interval '1 second', at, 'epoch') AS bucket, sum(seconds), sum(captured)::bigint,
       sum(applied)::bigint, max(outbox_rows), max(queue_ready + queue_held), max(canary_ms),
       ARRAY[sum(latency[1]), sum(latency[2]), sum(latency[3]), sum(latency[4]), sum(latency[5]), sum(latency[6]),
             sum(latency[7]), sum(latency[8]), sum(latency[9]), sum(latency[10]), sum(latency[11]), sum(latency[12]),
             sum(latency[13]), sum(latency[14]), sum(latency[15]), sum(latency[16]), sum(latency[17]), sum(latency[18]),
             sum(latency[19]), sum(latency[20]), sum(latency[21]), sum(latency[22]), sum(latency[23]), sum(latency[24]),
             sum(latency[25]), sum(latency[26]), sum(latency[27]), sum(latency[28]), sum(latency[29]), sum(latency[30]),
             sum(latency[31]), sum(latency[32]), sum(latency[33]), sum(latency[34])]::bigint[]
  FROM (SELECT at, seconds, captured, applied, outbox_rows, queue_ready, queue_held, canary_ms,
               CASE cardinality(latency) WHEN 34 THEN latency END AS latency  -- others have other bounds
          FROM observations WHERE at > %(begin)s AND at <= %(end)s) AS past
 GROUP BY 1 ORDER BY 1

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

-- name: spanning_runs
-- Runs of these tasks that were under way in this time, the longest first. A run that waited or ran for more than a day
-- when the time began is left out: that is the price of reading an index.
SELECT run.*
  FROM unnest(%(tasks)s::text[]) AS wanted (name)
 CROSS JOIN LATERAL (
       SELECT task_id, task, trigger,
              CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END AS state,
              NULL::jsonb AS progress, NULL::jsonb AS result, error, queued_at, started_at,
              CASE WHEN state = 'PENDING' AND expires_at < now() THEN expires_at ELSE finished_at END AS finished_at
         FROM task_runs
        WHERE task = wanted.name AND queued_at BETWEEN %(begin)s::timestamptz - interval '1 day' AND %(end)s
        ORDER BY queued_at DESC LIMIT %(each)s) AS run
 WHERE coalesce(run.finished_at, now()) >= %(begin)s
 ORDER BY coalesce(run.finished_at, now()) - run.queued_at DESC, run.task_id
 LIMIT %(limit)s

-- name: buried
-- Open dead letters by kind; their reasons quote what others have written and are shown to holders of the key only.
SELECT kind, count(*), max(buried_at) FROM dead_letters WHERE closed_at IS NULL GROUP BY kind ORDER BY kind
