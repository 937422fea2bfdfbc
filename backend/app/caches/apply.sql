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
INSERT INTO wide_patches (company_id, event_id)
SELECT company_id, event_id FROM unnest(%(companies)s::bigint[], %(event_ids)s::text[]) AS request (company_id, event_id)
 ORDER BY company_id
ON CONFLICT (company_id) DO UPDATE
   SET generation = wide_patches.generation + 1, after_product_id = excluded.after_product_id,
       requested_at = now(), event_id = excluded.event_id

-- name: next_wide
SELECT company_id, generation, after_product_id, event_id FROM wide_patches ORDER BY requested_at, company_id LIMIT 1

-- name: next_products
SELECT id FROM (
    (SELECT id FROM catalog_products WHERE company_id = %(company)s AND id > %(after)s ORDER BY id LIMIT %(most)s)
    UNION
    (SELECT product_id FROM product_city_mapping WHERE company_id = %(company)s AND product_id > %(after)s
      ORDER BY product_id LIMIT %(most)s)) AS part (id)
 ORDER BY id LIMIT %(most)s

-- name: advance_wide
UPDATE wide_patches SET after_product_id = %(after)s WHERE company_id = %(company)s AND generation = %(generation)s

-- name: finish_wide
DELETE FROM wide_patches WHERE company_id = %(company)s AND generation = %(generation)s
