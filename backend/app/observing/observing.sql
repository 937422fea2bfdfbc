-- name: applied
-- Event runs that ended since an instant: events, changed rows, and their histograms.
SELECT coalesce(sum((result ->> 'events')::bigint), 0)::bigint, coalesce(sum((result ->> 'patched')::bigint), 0)::bigint,
       coalesce(jsonb_agg(result -> 'latency') FILTER (WHERE result ? 'latency'), '[]'), coalesce(max(finished_at), %(since)s)
  FROM task_runs
 WHERE task = 'apply_catalog_events' AND queued_at > %(since)s - interval '10 minutes'
   AND finished_at > %(since)s AND state = 'SUCCESS'

-- name: insert_observation
INSERT INTO observations (seconds, captured, published, applied, patched, outbox_rows, outbox_seconds, queue_ready,
                          queue_held, latency, canary_ms)
VALUES (%(seconds)s, %(captured)s, %(published)s, %(applied)s, %(patched)s, %(outbox_rows)s, %(outbox_seconds)s,
        %(queue_ready)s, %(queue_held)s, %(latency)s::bigint[], %(canary_ms)s)

-- name: last_observation
SELECT at, seconds, captured, published, applied, patched, outbox_rows, outbox_seconds, queue_ready, queue_held, latency,
       canary_ms, extract(epoch FROM clock_timestamp() - at)::float8 AS age
  FROM observations ORDER BY at DESC LIMIT 1

-- name: audited
INSERT INTO audit_minutes (minute, cache, checked, wrong, round_seconds, round_rows)
VALUES (date_trunc('minute', clock_timestamp()), %(cache)s, %(checked)s, %(wrong)s, %(round_seconds)s, %(round_rows)s)
ON CONFLICT (minute, cache) DO UPDATE
   SET checked = audit_minutes.checked + excluded.checked, wrong = audit_minutes.wrong + excluded.wrong,
       round_seconds = greatest(audit_minutes.round_seconds, excluded.round_seconds),
       round_rows = coalesce(excluded.round_rows, audit_minutes.round_rows)

-- name: rounds
-- How long the last round of each cache took, and how many rows it compared.
SELECT DISTINCT ON (cache) cache, round_seconds, round_rows
  FROM audit_minutes WHERE round_seconds IS NOT NULL AND minute > now() - interval '7 days'
 ORDER BY cache, minute DESC

-- name: nines
-- Rows of each cache and window: compared, compared by the time of the last finding of any cache in that window, found wrong.
WITH windows (name, since) AS (
    VALUES ('hour', now() - interval '1 hour'), ('day', now() - interval '1 day'), ('week', now() - interval '7 days')
), fallen AS (
    SELECT name, max(minute) AS minute FROM windows JOIN audit_minutes ON minute > since AND wrong > 0 GROUP BY name
)
SELECT cache, name, sum(checked)::bigint, coalesce(sum(checked) FILTER (WHERE audited.minute <= fallen.minute), 0)::bigint,
       sum(wrong)::bigint
  FROM windows JOIN audit_minutes AS audited ON audited.minute > since LEFT JOIN fallen USING (name)
 GROUP BY cache, name

-- name: found
-- A row that is found again before it is mended is no further finding.
INSERT INTO audit_findings (cache, key, side, cached, wanted, last_patch)
SELECT %(cache)s, %(key)s, %(side)s, %(cached)s::jsonb, %(wanted)s::jsonb,
       CASE %(cache)s
       WHEN 'products' THEN coalesce((SELECT patch_id FROM product_city_mapping WHERE product_id = %(id)s),
                                     (SELECT patch_id FROM removed_keys WHERE noun = 'product' AND id = %(id)s))
       WHEN 'companies' THEN coalesce((SELECT patch_id FROM company_city_mapping WHERE company_id = %(id)s),
                                      (SELECT patch_id FROM removed_keys WHERE noun = 'company' AND id = %(id)s)) END
 WHERE NOT EXISTS (SELECT FROM audit_findings WHERE repaired_at IS NULL AND cache = %(cache)s AND key = %(key)s)
RETURNING id

-- name: past_capture
INSERT INTO passed_tables (table_name, rows) VALUES (%(table)s, %(rows)s)

-- name: mended
UPDATE audit_findings SET repaired_at = clock_timestamp()
 WHERE repaired_at IS NULL AND cache = %(cache)s AND key = ANY(%(keys)s::text[])

-- name: open_keys
SELECT key FROM audit_findings WHERE repaired_at IS NULL AND cache = %(cache)s ORDER BY id LIMIT %(most)s

-- name: open_findings
SELECT cache, count(*) FROM audit_findings WHERE repaired_at IS NULL GROUP BY cache

-- name: findings
SELECT id, found_at, cache, key, side, cached, wanted, last_patch, repaired_at AS mended_at
  FROM audit_findings ORDER BY id DESC LIMIT %(limit)s

-- name: findings_total
-- All that are kept, and those that are not mended yet.
SELECT count(*) AS total, count(*) FILTER (WHERE repaired_at IS NULL) AS open FROM audit_findings

-- name: changed_lately
-- A sample of the keys that event batches looked at since an instant.
SELECT key.value
  FROM task_runs, jsonb_array_elements_text(result -> 'sample') AS key (value)
 WHERE task = 'apply_catalog_events' AND queued_at > %(since)s - interval '1 minute' AND finished_at > %(since)s
   AND result ? 'sample'
 LIMIT %(most)s

-- name: now
SELECT clock_timestamp()

-- name: whole_sizes
SELECT (SELECT count(*) FROM city_counts), (SELECT count(*) FROM active_cities_cache)

-- name: product_window
-- The last id of a window of so many ids, on whichever side ends first; NULL at the end.
SELECT least((SELECT max(id) FROM (SELECT id FROM catalog_products WHERE %(after)s IS NULL OR id > CAST(%(after)s AS bigint)
                                     ORDER BY id LIMIT %(rows)s) AS part
              HAVING count(*) = %(rows)s),
             (SELECT max(product_id) FROM (SELECT product_id FROM product_city_mapping WHERE %(after)s IS NULL OR product_id > CAST(%(after)s AS bigint)
                                            ORDER BY product_id LIMIT %(rows)s) AS part HAVING count(*) = %(rows)s))

-- name: company_window
SELECT least((SELECT max(id) FROM (SELECT id FROM catalog_companies WHERE %(after)s IS NULL OR id > CAST(%(after)s AS bigint)
                                     ORDER BY id LIMIT %(rows)s) AS part
              HAVING count(*) = %(rows)s),
             (SELECT max(company_id) FROM (SELECT company_id FROM company_city_mapping WHERE %(after)s IS NULL OR company_id > CAST(%(after)s AS bigint)
                                            ORDER BY company_id LIMIT %(rows)s) AS part HAVING count(*) = %(rows)s))

-- name: send_canary
-- Numbered above its cached copy, which may come from a newer backup.
INSERT INTO canaries (id, number) SELECT 1, 1 + coalesce(max(number), 0) FROM canary_cache WHERE id = 1
ON CONFLICT (id) DO UPDATE SET number = greatest(canaries.number + 1, excluded.number), sent_at = clock_timestamp()
RETURNING number

-- name: canary_arrived
SELECT EXISTS (SELECT FROM canary_cache WHERE id = 1 AND number >= %(number)s)
