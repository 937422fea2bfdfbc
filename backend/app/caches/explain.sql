-- Why a cache holds what it holds: the source row, the patches that made the cached row what it is, events on the way.

-- name: product_source
SELECT to_jsonb(product) - 'version' || jsonb_build_object('company', jsonb_build_object(
           'id', company.id, 'name', company.name, 'is_active', company.is_active, 'city_id', company.city_id))
  FROM catalog_products AS product
  LEFT JOIN catalog_companies AS company ON company.id = product.company_id
 WHERE product.id = %(id)s

-- name: company_source
SELECT to_jsonb(company) - 'version' FROM catalog_companies AS company WHERE company.id = %(id)s

-- name: city_source
SELECT to_jsonb(city) - 'version' FROM catalog_cities AS city WHERE city.id = %(id)s

-- name: patches
-- From the patch that wrote the cached row to the one before, by primary key: a patch knows which one had written the
-- row, and where there was no row, the one that took it away is the newest removal before. The event is the row's own,
-- or that of its company.
WITH RECURSIVE removed (id) AS (
    SELECT unnest(patch_id || earlier_ids) FROM removed_keys WHERE noun = %(noun)s AND id = %(id)s
), way (id, step) AS (
    SELECT coalesce(CASE %(noun)s
                    WHEN 'product' THEN (SELECT patch_id FROM product_city_mapping WHERE product_id = %(id)s)
                    ELSE (SELECT patch_id FROM company_city_mapping WHERE company_id = %(id)s) END,
                    (SELECT max(id) FROM removed)), 1
    UNION ALL
    SELECT coalesce(previous_ids[array_position(subjects, %(subject)s)],
                    (SELECT max(removed.id) FROM removed WHERE removed.id < way.id)), step + 1
      FROM way JOIN patches USING (id) WHERE step < 10
)
SELECT task, task_id::text, asked.subject, asked.event_id, patched_at, CASE cardinality(traceparents) WHEN 1 THEN traceparents[1] END
  FROM way JOIN patches USING (id)
  LEFT JOIN LATERAL (
       SELECT subject, event_ids[array_position(subjects, subject)] AS event_id
         FROM unnest(%(askers)s::text[]) WITH ORDINALITY AS asker (subject, rank)
        WHERE event_ids[array_position(subjects, subject)] IS NOT NULL
        ORDER BY rank LIMIT 1) AS asked ON true
 ORDER BY step

-- name: city_patches
-- Its row names those that moved its counts. The event is the only one, or that of a row which the patch put there.
SELECT task, task_id::text, asked.subject, asked.event_id, patched_at, CASE cardinality(traceparents) WHEN 1 THEN traceparents[1] END
  FROM city_counts CROSS JOIN unnest(patch_ids) WITH ORDINALITY AS step (id, rank) JOIN patches USING (id)
  LEFT JOIN LATERAL (
       SELECT subject, event_id
         FROM unnest(subjects, event_ids) AS asker (subject, event_id)
         LEFT JOIN product_city_mapping AS product
           ON product_id = CASE split_part(subject, '/', 1) WHEN 'product' THEN split_part(subject, '/', 2)::bigint END
         LEFT JOIN company_city_mapping AS company
           ON company.company_id = CASE split_part(subject, '/', 1) WHEN 'company' THEN split_part(subject, '/', 2)::bigint END
        WHERE event_id IS NOT NULL
          AND (cardinality(event_ids) = 1 OR (product.city_id, product.patch_id) = (%(id)s, step.id)
               OR (company.city_id, company.patch_id) = (%(id)s, step.id))
        LIMIT 1) AS asked ON true
 WHERE city_counts.city_id = %(id)s
 ORDER BY step.rank

-- name: remembered
-- What is remembered of this key and of others, and what is on its way: the oldest patch of any key, whether this one
-- was ever removed, and events in the outbox of the row itself and of the company that it is or was with.
SELECT (SELECT min(patched_at) FROM patches),
       EXISTS (SELECT FROM removed_keys WHERE noun = %(noun)s AND id = %(id)s),
       (SELECT count(*) FROM event_outbox WHERE subject = ANY(%(subjects)s::text[]))
