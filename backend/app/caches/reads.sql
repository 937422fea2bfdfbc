-- Reads of the mappings with the catalog's names. A row whose source is gone, its event still on the way, shows no name.

-- name: city_products
SELECT counted.updated_at, listed.*
  FROM catalog_cities AS city
  LEFT JOIN city_counts AS counted ON counted.city_id = city.id
  LEFT JOIN LATERAL (
         SELECT mapping.product_id, product.external_id, product.name, mapping.kind, mapping.company_id,
                company.name AS company_name, mapping.created_at AS mapped_at
           FROM product_city_mapping AS mapping
           LEFT JOIN catalog_products AS product ON product.id = mapping.product_id
           LEFT JOIN catalog_companies AS company ON company.id = mapping.company_id
          WHERE mapping.city_id = %(city_id)s::bigint
            AND (%(after)s::bigint IS NULL OR mapping.product_id > %(after)s::bigint)
            AND (%(kind)s::text IS NULL OR mapping.kind = %(kind)s::text)
          ORDER BY mapping.product_id
          LIMIT %(limit)s::bigint) AS listed ON true
 WHERE city.id = %(city_id)s::bigint
 ORDER BY listed.product_id

-- name: city_companies
SELECT counted.updated_at, listed.*
  FROM catalog_cities AS city
  LEFT JOIN city_counts AS counted ON counted.city_id = city.id
  LEFT JOIN LATERAL (
         SELECT mapping.company_id, company.external_id, company.name, mapping.created_at AS mapped_at
           FROM company_city_mapping AS mapping
           LEFT JOIN catalog_companies AS company ON company.id = mapping.company_id
          WHERE mapping.city_id = %(city_id)s::bigint
            AND (%(after)s::bigint IS NULL OR mapping.company_id > %(after)s::bigint)
          ORDER BY mapping.company_id
          LIMIT %(limit)s::bigint) AS listed ON true
 WHERE city.id = %(city_id)s::bigint
 ORDER BY listed.company_id

-- name: active_cities
-- `unwritten_at`: until when nobody had begun to write the row anew, so that whatever is written later is dated later;
-- none while a transaction may be under way that has dated what it will commit.
SELECT cache_type, active_city_ids, total_cities, total_companies, total_products, last_updated,
       CASE WHEN xmax::text = '0' OR age(xmax) > age((pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295)::text::xid)
            THEN statement_timestamp() END AS unwritten_at
  FROM active_cities_cache
 WHERE cache_type = %(cache_type)s::text
