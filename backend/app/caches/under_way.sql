-- Is a difference still on its way? A version is made of the transactions that wrote what a cached row follows from. Versions
-- are compared for equality only: who looks at their order has to know subtransactions, and how the numbers wrap.

-- name: instant
SELECT clock_timestamp()

-- name: products_versions
SELECT coalesce(array_agg(hashtextextended(ROW(product.version, product.company_id, company.version)::text, 0) ORDER BY key.id), '{}')
  FROM unnest(%(ids)s::bigint[]) AS key (id)
  LEFT JOIN catalog_products AS product ON product.id = key.id
  LEFT JOIN catalog_companies AS company ON company.id = product.company_id

-- name: companies_versions
SELECT coalesce(array_agg(hashtextextended(ROW(company.version)::text, 0) ORDER BY key.id), '{}')
  FROM unnest(%(ids)s::bigint[]) AS key (id) LEFT JOIN catalog_companies AS company ON company.id = key.id

-- name: counts_versions
SELECT coalesce(array_agg(hashtextextended(ROW(city.version)::text, 0) ORDER BY key.id), '{}')
  FROM unnest(%(ids)s::bigint[]) AS key (id) LEFT JOIN catalog_cities AS city ON city.id = key.id

-- name: products_waiting
-- Those of the keys that a wide patch of their company waits for.
SELECT id FROM catalog_products WHERE id = ANY(%(ids)s::bigint[]) AND company_id IN (SELECT company_id FROM wide_patches)
UNION ALL
SELECT product_id FROM product_city_mapping
 WHERE product_id = ANY(%(ids)s::bigint[]) AND company_id IN (SELECT company_id FROM wide_patches)

-- name: everything_waits
-- Whether the wide patch of everything waits, or that of a set of keys, which may be any.
SELECT EXISTS (SELECT FROM wide_patch_of_everything) OR EXISTS (SELECT FROM wide_watches)
