-- Cities under what they belong to, in one statement. Numbers come from the cache of counts, names from the definition.
-- `level` 0: cities; rows of wider levels follow from `level_N`.

-- name: cities
SELECT 0 AS level, city.id::bigint, city.name AS label, NULL::bigint[] AS parents, counted.products_count,
       counted.services_count, counted.companies_count
  FROM catalog_cities AS city LEFT JOIN city_counts AS counted ON counted.city_id = city.id

-- name: cities_below_levels
SELECT 0 AS level, city.id::bigint, city.name AS label, place.parents, counted.products_count, counted.services_count,
       counted.companies_count
  FROM catalog_cities AS city
  JOIN level_0_rows() AS place ON place.id = city.id
  LEFT JOIN city_counts AS counted ON counted.city_id = city.id
