-- Is a difference still on its way? A key that differed is written down with the patch that had written its row, 0 where
-- none did; of counts, whose numbers tell nothing of the city's event, 1 where there is a row. Every patch that looks at
-- a key crosses it out.

-- name: suspect_products
-- One that is written down with another patch is written anew. Nobody who is crossing one of them out is waited for; who
-- looks at the same keys is, in ascending order.
WITH now AS MATERIALIZED (
    SELECT key.id, coalesce(cached.patch_id, 0) AS patch_id
      FROM unnest(%(ids)s::bigint[]) AS key (id) LEFT JOIN product_city_mapping AS cached ON cached.product_id = key.id
), other AS (
    SELECT suspects.id, now.patch_id FROM now JOIN suspects ON noun = 'product' AND suspects.id = now.id
     WHERE suspects.patch_id <> now.patch_id FOR UPDATE OF suspects SKIP LOCKED
), written_anew AS (
    UPDATE suspects SET patch_id = other.patch_id FROM other WHERE noun = 'product' AND suspects.id = other.id
)
INSERT INTO suspects (noun, id, patch_id)
SELECT 'product', id, patch_id FROM now
 WHERE NOT EXISTS (SELECT FROM suspects WHERE noun = 'product' AND suspects.id = now.id)
 ORDER BY id
    ON CONFLICT DO NOTHING

-- name: suspect_companies
WITH now AS MATERIALIZED (
    SELECT key.id, coalesce(cached.patch_id, 0) AS patch_id
      FROM unnest(%(ids)s::bigint[]) AS key (id) LEFT JOIN company_city_mapping AS cached ON cached.company_id = key.id
), other AS (
    SELECT suspects.id, now.patch_id FROM now JOIN suspects ON noun = 'company' AND suspects.id = now.id
     WHERE suspects.patch_id <> now.patch_id FOR UPDATE OF suspects SKIP LOCKED
), written_anew AS (
    UPDATE suspects SET patch_id = other.patch_id FROM other WHERE noun = 'company' AND suspects.id = other.id
)
INSERT INTO suspects (noun, id, patch_id)
SELECT 'company', id, patch_id FROM now
 WHERE NOT EXISTS (SELECT FROM suspects WHERE noun = 'company' AND suspects.id = now.id)
 ORDER BY id
    ON CONFLICT DO NOTHING

-- name: suspect_cities
WITH now AS MATERIALIZED (
    SELECT key.id, (cached.city_id IS NOT NULL)::int AS patch_id
      FROM unnest(%(ids)s::bigint[]) AS key (id) LEFT JOIN city_counts AS cached ON cached.city_id = key.id
), other AS (
    SELECT suspects.id, now.patch_id FROM now JOIN suspects ON noun = 'city' AND suspects.id = now.id
     WHERE suspects.patch_id <> now.patch_id FOR UPDATE OF suspects SKIP LOCKED
), written_anew AS (
    UPDATE suspects SET patch_id = other.patch_id FROM other WHERE noun = 'city' AND suspects.id = other.id
)
INSERT INTO suspects (noun, id, patch_id)
SELECT 'city', id, patch_id FROM now
 WHERE NOT EXISTS (SELECT FROM suspects WHERE noun = 'city' AND suspects.id = now.id)
 ORDER BY id
    ON CONFLICT DO NOTHING

-- name: instant
SELECT clock_timestamp()

-- name: what_waits
-- Whether wide patches of companies wait; and whether that of everything waits, or of a set of keys, which may be any.
SELECT EXISTS (SELECT FROM wide_patches), EXISTS (SELECT FROM wide_patch_of_everything) OR EXISTS (SELECT FROM wide_watches)

-- name: products_stood
-- Those of the keys that are written down, and whose row is of the patch that it was of.
SELECT suspects.id FROM suspects LEFT JOIN product_city_mapping AS cached ON cached.product_id = suspects.id
 WHERE noun = 'product' AND suspects.id = ANY(%(ids)s::bigint[]) AND suspects.patch_id = coalesce(cached.patch_id, 0)

-- name: companies_stood
SELECT suspects.id FROM suspects LEFT JOIN company_city_mapping AS cached ON cached.company_id = suspects.id
 WHERE noun = 'company' AND suspects.id = ANY(%(ids)s::bigint[]) AND suspects.patch_id = coalesce(cached.patch_id, 0)

-- name: cities_stood
SELECT suspects.id FROM suspects LEFT JOIN city_counts AS cached ON cached.city_id = suspects.id
 WHERE noun = 'city' AND suspects.id = ANY(%(ids)s::bigint[]) AND suspects.patch_id = (cached.city_id IS NOT NULL)::int

-- name: products_waiting
-- Those of the keys that a wide patch of their company waits for.
SELECT id FROM catalog_products WHERE id = ANY(%(ids)s::bigint[]) AND company_id IN (SELECT company_id FROM wide_patches)
UNION ALL
SELECT product_id FROM product_city_mapping
 WHERE product_id = ANY(%(ids)s::bigint[]) AND company_id IN (SELECT company_id FROM wide_patches)
