-- Reads of the mappings with the catalog's names. A row whose source is gone, its event still on the way, shows no name.
-- Whatever comes after a row is found through an index, also by a plan that was made for any row: hence no OR.

-- name: city_products
SELECT counted.updated_at, listed.*
  FROM catalog_cities AS city
  LEFT JOIN city_counts AS counted ON counted.city_id = city.id
  LEFT JOIN LATERAL (
         SELECT mapping.product_id, product.external_id, product.name, mapping.kind, mapping.company_id,
                company.name AS company_name, mapping.created_at AS mapped_at
           FROM (SELECT of_a_kind.*
                   FROM unnest(ARRAY['product', 'service']) AS wanted (kind)
                  CROSS JOIN LATERAL (
                         SELECT * FROM product_city_mapping AS mapping
                          WHERE mapping.city_id = CAST(%(city_id)s AS bigint) AND mapping.kind = wanted.kind
                            AND mapping.product_id >= coalesce(CAST(%(after)s AS bigint), -9223372036854775808)
                            AND mapping.product_id IS DISTINCT FROM CAST(%(after)s AS bigint)
                          ORDER BY mapping.product_id
                          LIMIT CAST(%(limit)s AS bigint)) AS of_a_kind
                  WHERE CAST(%(kind)s AS text) IS NULL OR wanted.kind = CAST(%(kind)s AS text)
                  ORDER BY product_id
                  LIMIT CAST(%(limit)s AS bigint)) AS mapping
           LEFT JOIN catalog_products AS product ON product.id = mapping.product_id
           LEFT JOIN catalog_companies AS company ON company.id = mapping.company_id
          ORDER BY mapping.product_id) AS listed ON true
 WHERE city.id = CAST(%(city_id)s AS bigint)
 ORDER BY listed.product_id

-- name: city_companies
SELECT counted.updated_at, listed.*
  FROM catalog_cities AS city
  LEFT JOIN city_counts AS counted ON counted.city_id = city.id
  LEFT JOIN LATERAL (
         SELECT mapping.company_id, company.external_id, company.name, mapping.created_at AS mapped_at
           FROM company_city_mapping AS mapping
           LEFT JOIN catalog_companies AS company ON company.id = mapping.company_id
          WHERE mapping.city_id = CAST(%(city_id)s AS bigint)
            AND mapping.company_id >= coalesce(CAST(%(after)s AS bigint), -9223372036854775808)
            AND mapping.company_id IS DISTINCT FROM CAST(%(after)s AS bigint)
          ORDER BY mapping.company_id
          LIMIT CAST(%(limit)s AS bigint)) AS listed ON true
 WHERE city.id = CAST(%(city_id)s AS bigint)
 ORDER BY listed.company_id

-- name: active_cities
-- `unwritten_at`: until when nobody had begun to write the row anew, so that whatever is written later is dated later;
-- none while a transaction may be under way that has dated what it will commit.
SELECT cache_type, active_city_ids, total_cities, total_companies, total_products, last_updated,
       CASE WHEN xmax::text = '0' OR age(xmax) > age((pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295)::text::xid)
            THEN statement_timestamp() END AS unwritten_at
  FROM active_cities_cache
 WHERE cache_type = CAST(%(cache_type)s AS text)
