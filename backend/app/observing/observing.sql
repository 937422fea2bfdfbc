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
INSERT INTO audit_minutes (minute, cache, checked, wrong, round_seconds)
VALUES (date_trunc('minute', clock_timestamp()), %(cache)s, %(checked)s, %(wrong)s, %(round_seconds)s)
ON CONFLICT (minute, cache) DO UPDATE
   SET checked = audit_minutes.checked + excluded.checked, wrong = audit_minutes.wrong + excluded.wrong,
       round_seconds = greatest(audit_minutes.round_seconds, excluded.round_seconds)

-- name: rounds
-- How long the last round of each cache took.
SELECT DISTINCT ON (cache) cache, round_seconds
  FROM audit_minutes WHERE round_seconds IS NOT NULL AND minute > now() - interval '7 days'
 ORDER BY cache, minute DESC

-- name: nines
SELECT cache,
       sum(checked) FILTER (WHERE minute > now() - interval '1 hour')::bigint,
       sum(wrong) FILTER (WHERE minute > now() - interval '1 hour')::bigint,
       sum(checked) FILTER (WHERE minute > now() - interval '1 day')::bigint,
       sum(wrong) FILTER (WHERE minute > now() - interval '1 day')::bigint,
       sum(checked)::bigint, sum(wrong)::bigint
  FROM audit_minutes WHERE minute > now() - interval '7 days'
 GROUP BY cache

-- name: found
INSERT INTO audit_findings (cache, key, side, cached, wanted, last_patch, repaired_at)
VALUES (%(cache)s, %(key)s, %(side)s, %(cached)s::jsonb, %(wanted)s::jsonb, %(last_patch)s, clock_timestamp())

-- name: findings
SELECT id, found_at, cache, key, side, cached, wanted, last_patch, repaired_at
  FROM audit_findings ORDER BY id DESC LIMIT %(limit)s

-- name: last_patch
SELECT CASE %(cache)s
       WHEN 'products' THEN coalesce((SELECT patch_id FROM product_city_mapping WHERE product_id = %(id)s),
                                     (SELECT patch_id FROM removed_keys WHERE noun = 'product' AND id = %(id)s))
       WHEN 'companies' THEN coalesce((SELECT patch_id FROM company_city_mapping WHERE company_id = %(id)s),
                                      (SELECT patch_id FROM removed_keys WHERE noun = 'company' AND id = %(id)s)) END

-- name: changed_lately
-- A sample of the keys that event batches looked at since an instant.
SELECT key.value
  FROM task_runs, jsonb_array_elements_text(result -> 'sample') AS key (value)
 WHERE task = 'apply_catalog_events' AND queued_at > %(since)s - interval '1 minute' AND finished_at > %(since)s
   AND result ? 'sample'
 LIMIT %(most)s

-- name: products_versions
-- Versions of what a product's truth is made of: while they stay, no newer event of it can be under way.
SELECT key.id, product.xmin::text, product.company_id, company.xmin::text
  FROM unnest(%(ids)s::bigint[]) AS key (id)
  LEFT JOIN products AS product ON product.id = key.id
  LEFT JOIN companies AS company ON company.id = product.company_id

-- name: companies_versions
SELECT key.id, company.xmin::text
  FROM unnest(%(ids)s::bigint[]) AS key (id) LEFT JOIN companies AS company ON company.id = key.id

-- name: wrong_counts
-- Counts beside the mappings: patches move both together, so no snapshot may differ. A city without anything may
-- still wait for its row.
SELECT coalesce(wanted.city_id, counted.city_id)
  FROM (SELECT city_id, sum(products)::bigint AS products, sum(services)::bigint AS services, sum(companies)::bigint AS companies
          FROM (SELECT city_id, count(*) FILTER (WHERE kind <> 'service') AS products,
                       count(*) FILTER (WHERE kind = 'service') AS services, 0 AS companies
                  FROM product_city_mapping GROUP BY city_id
                UNION ALL SELECT city_id, 0, 0, count(*) FROM company_city_mapping GROUP BY city_id) AS part
         GROUP BY city_id) AS wanted
  FULL JOIN city_counts AS counted USING (city_id)
 WHERE (coalesce(wanted.products, 0), coalesce(wanted.services, 0), coalesce(wanted.companies, 0))
       <> (coalesce(counted.products_count, 0), coalesce(counted.services_count, 0), coalesce(counted.companies_count, 0))

-- name: wrong_active
-- Active cities beside the counts, which they move with.
SELECT kind.cache_type
  FROM (VALUES ('companies'), ('products')) AS kind (cache_type)
  LEFT JOIN active_cities_cache AS active USING (cache_type)
 CROSS JOIN (SELECT coalesce(array_agg(city_id ORDER BY city_id) FILTER (WHERE companies_count > 0), '{}') AS of_companies,
                    coalesce(array_agg(city_id ORDER BY city_id) FILTER (WHERE products_count + services_count > 0), '{}')
                        AS of_products,
                    coalesce(sum(companies_count), 0) AS companies, coalesce(sum(products_count + services_count), 0) AS products
               FROM city_counts) AS wanted
 WHERE (active.active_city_ids, active.total_companies, active.total_products) IS DISTINCT FROM
       (CASE kind.cache_type WHEN 'companies' THEN of_companies ELSE of_products END, wanted.companies, wanted.products)
    OR active.total_cities IS DISTINCT FROM cardinality(active.active_city_ids)

-- name: whole_sizes
SELECT (SELECT count(*) FROM city_counts), (SELECT count(*) FROM active_cities_cache)

-- name: product_window
-- The last id of a window of so many ids, on whichever side ends first; NULL at the end.
SELECT least((SELECT max(id) FROM (SELECT id FROM products WHERE id > %(after)s ORDER BY id LIMIT %(rows)s) AS part
              HAVING count(*) = %(rows)s),
             (SELECT max(product_id) FROM (SELECT product_id FROM product_city_mapping WHERE product_id > %(after)s
                                            ORDER BY product_id LIMIT %(rows)s) AS part HAVING count(*) = %(rows)s))

-- name: company_window
SELECT least((SELECT max(id) FROM (SELECT id FROM companies WHERE id > %(after)s ORDER BY id LIMIT %(rows)s) AS part
              HAVING count(*) = %(rows)s),
             (SELECT max(company_id) FROM (SELECT company_id FROM company_city_mapping WHERE company_id > %(after)s
                                            ORDER BY company_id LIMIT %(rows)s) AS part HAVING count(*) = %(rows)s))

-- name: prune_observations
DELETE FROM observations WHERE at < now() - %(days)s * interval '1 day'

-- name: prune_minutes
DELETE FROM audit_minutes WHERE minute < now() - %(days)s * interval '1 day'

-- name: prune_findings
DELETE FROM audit_findings WHERE found_at < now() - %(days)s * interval '1 day'

-- name: put_canary
INSERT INTO cities (id, name) VALUES (%(id)s, 'canary') ON CONFLICT (id) DO NOTHING

-- name: drop_canary
DELETE FROM cities WHERE id = %(id)s

-- name: canary_cached
SELECT EXISTS (SELECT FROM city_counts WHERE city_id = %(id)s)
