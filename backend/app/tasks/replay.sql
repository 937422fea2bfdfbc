-- name: load
SELECT marker, next_offset, first_offset, last_offset, events, keys, rows_changed, products, companies, cities, truncated
  FROM replays WHERE task_id = %(task_id)s::uuid

-- name: save
-- Keys gathered and not yet patched are kept with the offset, so going on from it loses none.
INSERT INTO replays (task_id, marker, next_offset, first_offset, last_offset, events, keys, rows_changed,
                     products, companies, cities, truncated)
VALUES (%(task_id)s::uuid, %(marker)s, %(next_offset)s, %(first_offset)s, %(last_offset)s, %(events)s, %(keys)s,
        %(rows_changed)s, %(products)s::bigint[], %(companies)s::bigint[], %(cities)s::bigint[], %(truncated)s)
ON CONFLICT (task_id) DO UPDATE
   SET next_offset = excluded.next_offset, first_offset = excluded.first_offset, last_offset = excluded.last_offset,
       events = excluded.events, keys = excluded.keys, rows_changed = excluded.rows_changed,
       products = excluded.products, companies = excluded.companies, cities = excluded.cities,
       truncated = excluded.truncated, updated_at = now()

-- name: spill
-- Keys that a dry run has gathered; one that was gathered before is there already.
INSERT INTO replay_keys (task_id, noun, id) SELECT %(task_id)s::uuid, %(noun)s, unnest(%(ids)s::bigint[]) ON CONFLICT DO NOTHING

-- name: count_keys
SELECT count(*) FROM replay_keys WHERE task_id = %(task_id)s::uuid

-- name: take_products_along
-- As a patch of these companies would, those of the catalog and those that are cached.
INSERT INTO replay_keys (task_id, noun, id)
SELECT company.task_id, 'product', product.id
  FROM replay_keys AS company
  JOIN (SELECT company_id, id FROM catalog_products UNION ALL SELECT company_id, product_id FROM product_city_mapping)
       AS product (company_id, id) ON product.company_id = company.id
 WHERE company.task_id = %(task_id)s::uuid AND company.noun = 'company'
ON CONFLICT DO NOTHING

-- name: keys_from
SELECT id FROM replay_keys
 WHERE task_id = %(task_id)s::uuid AND noun = %(noun)s AND id >= %(least)s ORDER BY id LIMIT %(most)s

-- name: forget_keys
DELETE FROM replay_keys WHERE task_id = %(task_id)s::uuid
