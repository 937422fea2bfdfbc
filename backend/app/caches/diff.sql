-- The one diff: truth beside cache, read only. Bounds limit it to ids above `after`, which are all where that is NULL, and
-- up to `until`; `city` limits it to what is cached in that city or should be.

-- name: products
SELECT count(*),
       array_agg(product_id) FILTER (WHERE cached.product_id IS NULL),
       array_agg(product_id) FILTER (WHERE wanted.product_id IS NULL),
       array_agg(product_id) FILTER (WHERE (wanted.city_id, wanted.company_id, wanted.kind)
                                           <> (cached.city_id, cached.company_id, cached.kind))
  FROM (SELECT product_id, city_id, company_id, kind FROM product_city_truth
         WHERE (%(after)s IS NULL OR product_id > CAST(%(after)s AS bigint)) AND product_id <= %(until)s
           AND (%(city)s IS NULL OR city_id = CAST(%(city)s AS bigint))) AS wanted
  FULL JOIN (SELECT product_id, city_id, company_id, kind FROM product_city_mapping
              WHERE (%(after)s IS NULL OR product_id > CAST(%(after)s AS bigint)) AND product_id <= %(until)s
                AND (%(city)s IS NULL OR city_id = CAST(%(city)s AS bigint))) AS cached USING (product_id)

-- name: companies
SELECT count(*),
       array_agg(company_id) FILTER (WHERE cached.company_id IS NULL),
       array_agg(company_id) FILTER (WHERE wanted.company_id IS NULL),
       array_agg(company_id) FILTER (WHERE wanted.city_id <> cached.city_id)
  FROM (SELECT company_id, city_id FROM company_city_truth
         WHERE (%(after)s IS NULL OR company_id > CAST(%(after)s AS bigint)) AND company_id <= %(until)s
           AND (%(city)s IS NULL OR city_id = CAST(%(city)s AS bigint))) AS wanted
  FULL JOIN (SELECT company_id, city_id FROM company_city_mapping
              WHERE (%(after)s IS NULL OR company_id > CAST(%(after)s AS bigint)) AND company_id <= %(until)s
                AND (%(city)s IS NULL OR city_id = CAST(%(city)s AS bigint))) AS cached USING (company_id)

-- name: counts
-- Against the truth itself, not against the mappings: an error there shows here as well.
WITH wanted AS (
    SELECT city_id, coalesce(products, 0) AS products, coalesce(services, 0) AS services, coalesce(companies, 0) AS companies
      FROM (SELECT id AS city_id FROM catalog_cities) AS city
      LEFT JOIN (SELECT city_id, count(*) FILTER (WHERE kind <> 'service') AS products,
                        count(*) FILTER (WHERE kind = 'service') AS services
                   FROM product_city_truth GROUP BY city_id) AS goods USING (city_id)
      LEFT JOIN (SELECT city_id, count(*) AS companies FROM company_city_truth GROUP BY city_id) AS sellers USING (city_id)
)
SELECT count(*),
       array_agg(city_id) FILTER (WHERE cached.city_id IS NULL),
       array_agg(city_id) FILTER (WHERE wanted.city_id IS NULL),
       array_agg(city_id) FILTER (WHERE (wanted.products, wanted.services, wanted.companies)
                                        <> (cached.products_count, cached.services_count, cached.companies_count))
  FROM wanted FULL JOIN city_counts AS cached USING (city_id)

-- name: active
SELECT count(*),
       array_agg(cache_type) FILTER (WHERE cached.cache_type IS NULL),
       array_agg(cache_type) FILTER (WHERE wanted.cache_type IS NULL),
       array_agg(cache_type) FILTER (WHERE (wanted.ids, cardinality(wanted.ids), wanted.companies, wanted.products)
                 IS DISTINCT FROM (cached.active_city_ids, total_cities, total_companies, total_products)
                 AND wanted.cache_type IS NOT NULL AND cached.cache_type IS NOT NULL)
  FROM (SELECT cache_type,
               CASE cache_type
                    WHEN 'products' THEN ARRAY(SELECT DISTINCT city_id::bigint FROM product_city_truth ORDER BY 1)
                    ELSE ARRAY(SELECT DISTINCT city_id::bigint FROM company_city_truth ORDER BY 1) END AS ids,
               (SELECT count(*) FROM company_city_truth) AS companies,
               (SELECT count(*) FROM product_city_truth) AS products
          FROM unnest(ARRAY['companies', 'products']) AS cache_type) AS wanted
  FULL JOIN active_cities_cache AS cached USING (cache_type)

-- name: product_rows
-- Rows before and after, for those who want to see them.
SELECT product_id, CASE WHEN cached.product_id IS NOT NULL THEN to_jsonb(cached) - 'created_at' - 'patch_id' END,
       CASE WHEN wanted.product_id IS NOT NULL THEN to_jsonb(wanted) END
  FROM unnest(%(ids)s::bigint[]) AS key (product_id)
  LEFT JOIN product_city_mapping AS cached USING (product_id)
  LEFT JOIN product_city_truth AS wanted USING (product_id)
 ORDER BY product_id

-- name: company_rows
SELECT company_id, CASE WHEN cached.company_id IS NOT NULL THEN to_jsonb(cached) - 'created_at' - 'patch_id' END,
       CASE WHEN wanted.company_id IS NOT NULL THEN to_jsonb(wanted) END
  FROM unnest(%(ids)s::bigint[]) AS key (company_id)
  LEFT JOIN company_city_mapping AS cached USING (company_id)
  LEFT JOIN company_city_truth AS wanted USING (company_id)
 ORDER BY company_id

-- name: differing_products
-- Those of the given keys, and of the products of the given companies, that differ: missing, extra, or with other values.
SELECT product_id, cached.product_id IS NULL, wanted.product_id IS NULL
  FROM (SELECT unnest(%(ids)s::bigint[])
        UNION SELECT id FROM catalog_products WHERE company_id = ANY(%(companies)s::bigint[])
        UNION SELECT product_id FROM product_city_mapping WHERE company_id = ANY(%(companies)s::bigint[])) AS key (product_id)
  LEFT JOIN product_city_mapping AS cached USING (product_id)
  LEFT JOIN product_city_truth AS wanted USING (product_id)
 WHERE (wanted.city_id, wanted.company_id, wanted.kind) IS DISTINCT FROM (cached.city_id, cached.company_id, cached.kind)
 ORDER BY product_id

-- name: differing_companies
SELECT company_id, cached.company_id IS NULL, wanted.company_id IS NULL
  FROM unnest(%(ids)s::bigint[]) AS key (company_id)
  LEFT JOIN company_city_mapping AS cached USING (company_id)
  LEFT JOIN company_city_truth AS wanted USING (company_id)
 WHERE wanted.city_id IS DISTINCT FROM cached.city_id
 ORDER BY company_id

-- name: company_differs
-- Whether anything of a company differs: its own row, or one of its products. Where a wide patch is under way, what it
-- comes to next is looked at first: that differs as long as anything does, and spares looking at all of them.
SELECT CASE
       WHEN (SELECT wanted.city_id IS DISTINCT FROM cached.city_id
               FROM (SELECT CAST(%(company)s AS bigint) AS company_id) AS key
               LEFT JOIN company_city_mapping AS cached USING (company_id)
               LEFT JOIN company_city_truth AS wanted USING (company_id)) THEN true
       WHEN EXISTS (SELECT
                      FROM (SELECT product_id, city_id, company_id, kind FROM product_city_mapping
                             WHERE company_id = %(company)s
                               AND product_id > (SELECT after_product_id FROM wide_patches WHERE company_id = %(company)s)
                             ORDER BY product_id LIMIT 100) AS cached
                      LEFT JOIN product_city_truth AS wanted USING (product_id)
                     WHERE (wanted.city_id, wanted.company_id, wanted.kind)
                           IS DISTINCT FROM (cached.city_id, cached.company_id, cached.kind)) THEN true
       ELSE EXISTS (SELECT
                      FROM (SELECT product_id, city_id, kind FROM product_city_truth WHERE company_id = %(company)s) AS wanted
                      FULL JOIN (SELECT product_id, city_id, kind FROM product_city_mapping
                                  WHERE company_id = %(company)s) AS cached USING (product_id)
                     WHERE (wanted.city_id, wanted.kind) IS DISTINCT FROM (cached.city_id, cached.kind)) END

-- name: count_rows
SELECT city_id, to_jsonb(cached) - 'updated_at' - 'patch_ids', CASE WHEN city.id IS NOT NULL THEN jsonb_build_object(
           'city_id', city_id, 'products_count', goods.products, 'services_count', goods.services,
           'companies_count', (SELECT count(*) FROM company_city_truth AS t WHERE t.city_id = key.city_id)) END
  FROM unnest(%(ids)s::bigint[]) AS key (city_id)
  LEFT JOIN city_counts AS cached USING (city_id)
  LEFT JOIN catalog_cities AS city ON city.id = city_id
 CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE kind <> 'service') AS products,
                            count(*) FILTER (WHERE kind = 'service') AS services
                       FROM product_city_truth AS t WHERE t.city_id = key.city_id) AS goods
 ORDER BY city_id

-- name: moves
-- By how much the counts move when these mappings are made right.
SELECT city_id, kind, sum(one) FROM (
    SELECT city_id, kind, 1 AS one FROM product_city_truth WHERE product_id = ANY(%(products)s::bigint[])
    UNION ALL SELECT city_id, kind, -1 FROM product_city_mapping WHERE product_id = ANY(%(products)s::bigint[])
    UNION ALL SELECT city_id, 'company', 1 FROM company_city_truth WHERE company_id = ANY(%(companies)s::bigint[])
    UNION ALL SELECT city_id, 'company', -1 FROM company_city_mapping WHERE company_id = ANY(%(companies)s::bigint[])
) AS step GROUP BY city_id, kind HAVING sum(one) <> 0

-- name: uncounted
-- Cities whose row of counts alone is to come or to go. Where it lacks numbers as well, the mappings tell.
SELECT id, NULL::jsonb, jsonb_build_object('city_id', id, 'products_count', 0, 'services_count', 0, 'companies_count', 0)
  FROM catalog_cities
 WHERE (%(cities)s::bigint[] IS NULL OR id = ANY(%(cities)s::bigint[])) AND NOT EXISTS (SELECT FROM city_counts WHERE city_id = id)
UNION ALL
SELECT city_id, to_jsonb(counted) - 'updated_at' - 'patch_ids', NULL
  FROM city_counts AS counted
 WHERE (%(cities)s::bigint[] IS NULL OR city_id = ANY(%(cities)s::bigint[]))
   AND (products_count, services_count, companies_count) = (0, 0, 0) AND NOT EXISTS (SELECT FROM catalog_cities WHERE id = city_id)

-- name: counted
SELECT city_id, city.id IS NOT NULL, products_count, services_count, companies_count
  FROM (SELECT id AS city_id FROM catalog_cities WHERE %(ids)s::bigint[] IS NULL
        UNION SELECT city_id FROM city_counts WHERE %(ids)s::bigint[] IS NULL
        UNION SELECT unnest(%(ids)s::bigint[])) AS key
  LEFT JOIN city_counts USING (city_id)
  LEFT JOIN catalog_cities AS city ON city.id = city_id

-- name: counts_beside_mappings
-- Counts beside the mappings: patches move both together, so no snapshot may differ. A city without anything may
-- still wait for its row.
SELECT city_id, to_jsonb(counted) - 'updated_at' - 'patch_ids',
       CASE WHEN wanted.products IS NOT NULL THEN
            jsonb_build_object('city_id', city_id, 'products_count', wanted.products, 'services_count', wanted.services,
                               'companies_count', wanted.companies) END
  FROM (SELECT city_id, sum(products)::bigint AS products, sum(services)::bigint AS services, sum(companies)::bigint AS companies
          FROM (SELECT city_id, count(*) FILTER (WHERE kind <> 'service') AS products,
                       count(*) FILTER (WHERE kind = 'service') AS services, 0 AS companies
                  FROM product_city_mapping GROUP BY city_id
                UNION ALL SELECT city_id, 0, 0, count(*) FROM company_city_mapping GROUP BY city_id) AS part
         GROUP BY city_id) AS wanted
  FULL JOIN city_counts AS counted USING (city_id)
 WHERE (coalesce(wanted.products, 0), coalesce(wanted.services, 0), coalesce(wanted.companies, 0))
       <> (coalesce(counted.products_count, 0), coalesce(counted.services_count, 0), coalesce(counted.companies_count, 0))

-- name: active_beside_counts
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

-- name: names_city
SELECT EXISTS (SELECT FROM catalog_cities WHERE id = CAST(%(city)s AS bigint))
       OR EXISTS (SELECT FROM city_counts WHERE city_id = CAST(%(city)s AS bigint))
       OR EXISTS (SELECT FROM product_city_mapping WHERE city_id = CAST(%(city)s AS bigint))
       OR EXISTS (SELECT FROM company_city_mapping WHERE city_id = CAST(%(city)s AS bigint))
       OR EXISTS (SELECT FROM active_cities_cache WHERE CAST(%(city)s AS bigint) = ANY(active_city_ids))

-- name: window_end
-- The last id of the next window of a mapping rebuild, NULL when the rest fits into one.
SELECT least((SELECT max(id) FROM (SELECT id FROM catalog_products WHERE %(after)s IS NULL OR id > CAST(%(after)s AS bigint)
                                     ORDER BY id LIMIT %(rows)s) AS part
              HAVING count(*) = %(rows)s),
             (SELECT max(product_id) FROM (SELECT product_id FROM product_city_mapping
                                            WHERE %(after)s IS NULL OR product_id > CAST(%(after)s AS bigint)
                                            ORDER BY product_id LIMIT %(rows)s) AS part
              HAVING count(*) = %(rows)s))

-- name: city_window_end
-- The same of what is cached in one city or should be.
SELECT least((SELECT max(product_id) FROM (SELECT product_id FROM product_city_truth
                                            WHERE city_id = CAST(%(city)s AS bigint)
                                              AND (%(after)s IS NULL OR product_id > CAST(%(after)s AS bigint))
                                            ORDER BY product_id LIMIT %(rows)s) AS part
              HAVING count(*) = %(rows)s),
             (SELECT max(product_id) FROM (SELECT product_id FROM product_city_mapping
                                            WHERE city_id = CAST(%(city)s AS bigint)
                                              AND (%(after)s IS NULL OR product_id > CAST(%(after)s AS bigint))
                                            ORDER BY product_id LIMIT %(rows)s) AS part
              HAVING count(*) = %(rows)s))

-- name: estimate
-- Rows of the larger side as the planner knows them; -1: it knows nothing.
WITH RECURSIVE part AS (
    SELECT to_regclass(table_name)::oid AS oid FROM catalog_tables() WHERE role = 'product'
    UNION ALL
    SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT greatest((SELECT sum(reltuples) FROM pg_class JOIN part USING (oid) WHERE relkind = 'r'),
                (SELECT reltuples FROM pg_class WHERE oid = 'product_city_mapping'::regclass))::float8
