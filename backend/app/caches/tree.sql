-- Cities under what they belong to, in one statement. Numbers come from the cache of counts, names from the definition.
-- `level` 0: cities; rows of wider levels follow from `level_N`.

-- name: cities
SELECT 0 AS level, city.id::bigint, city.name AS label, NULL::bigint[] AS parents,
       CASE CAST(%(counted)s AS text) WHEN 'products' THEN counted.products_count WHEN 'services' THEN counted.services_count
            ELSE counted.companies_count END AS count
  FROM catalog_cities AS city LEFT JOIN city_counts AS counted ON counted.city_id = city.id

-- name: cities_below_levels
SELECT 0 AS level, city.id::bigint, city.name AS label, place.parents,
       CASE CAST(%(counted)s AS text) WHEN 'products' THEN counted.products_count WHEN 'services' THEN counted.services_count
            ELSE counted.companies_count END AS count
  FROM catalog_cities AS city
  JOIN level_0_rows() AS place ON place.id = city.id
  LEFT JOIN city_counts AS counted ON counted.city_id = city.id
