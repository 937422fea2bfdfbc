-- name: products_of
-- Products that a change of each company touches: those that it has and those that are cached for it. At most
-- `most` + 1 of each, enough to know that there are too many.
SELECT company_id, ARRAY(
           (SELECT id FROM catalog_products AS product WHERE product.company_id = company.company_id ORDER BY id LIMIT %(most)s + 1)
           UNION
           (SELECT product_id FROM product_city_mapping AS mapping
             WHERE mapping.company_id = company.company_id ORDER BY product_id LIMIT %(most)s + 1))
  FROM unnest(%(companies)s::bigint[]) AS company (company_id)

-- name: request_wide
-- Asking again while it is under way begins it anew: what it has done may be older than this request.
INSERT INTO wide_patches (company_id, event_id, of_company)
SELECT company_id, event_id, true
  FROM unnest(%(companies)s::bigint[], %(event_ids)s::text[]) AS request (company_id, event_id)
 ORDER BY company_id
ON CONFLICT (company_id) DO UPDATE
   SET generation = wide_patches.generation + 1, after_product_id = excluded.after_product_id,
       requested_at = now(), event_id = excluded.event_id

-- name: request_everything
INSERT INTO wide_patch_of_everything DEFAULT VALUES
ON CONFLICT (singleton) DO UPDATE
   SET generation = wide_patch_of_everything.generation + 1, requested_at = now()

-- name: next_wide
-- The oldest request: a company's, or that of everything, which names no company.
SELECT company_id, generation, after_product_id, event_id
  FROM (SELECT company_id, generation, after_product_id, event_id, requested_at FROM wide_patches
        UNION ALL
        SELECT NULL, generation, NULL, NULL, requested_at FROM wide_patch_of_everything) AS request
 ORDER BY requested_at, company_id LIMIT 1

-- name: next_products
-- The next ones above `after`; the first ones where that is NULL.
SELECT id FROM (
    (SELECT id FROM catalog_products
      WHERE company_id = %(company)s AND (%(after)s IS NULL OR id > CAST(%(after)s AS bigint)) ORDER BY id LIMIT %(most)s)
    UNION
    (SELECT product_id FROM product_city_mapping
      WHERE company_id = %(company)s AND (%(after)s IS NULL OR product_id > CAST(%(after)s AS bigint))
      ORDER BY product_id LIMIT %(most)s)) AS part (id)
 ORDER BY id LIMIT %(most)s

-- name: advance_wide
UPDATE wide_patches SET after_product_id = %(after)s WHERE company_id = %(company)s AND generation = %(generation)s

-- name: finish_wide
DELETE FROM wide_patches WHERE company_id = %(company)s AND generation = %(generation)s

-- name: finish_everything
DELETE FROM wide_patch_of_everything WHERE generation = %(generation)s
