-- Cities under what they belong to, in one statement. Numbers come from the cache of counts, names from the definition.
-- One row a level, 0 for the cities: its places as JSON arrays in one order. What seldom changes stands apart from the
-- counts, as text that is compared as a whole; by id, so that it stays the same while rows move about their table.

-- name: kept
-- Whether places that this server has told with that snapshot are as they were: each change of them is noted, and none is
-- that the snapshot may not have shown.
WITH kept AS MATERIALIZED (
    SELECT coalesce(%(server)s = pg_postmaster_start_time()::text
                    AND NOT coalesce((SELECT xid FROM city_changes WHERE NOT of_counts ORDER BY xid DESC LIMIT 1)
                                     >= pg_snapshot_xmin(%(snapshot)s::pg_snapshot), false)
                    AND NOT EXISTS (SELECT FROM applied_definition
                                     WHERE singleton AND (levels_noted_since >= began_at) IS NOT TRUE), false) AS holds)

-- name: counts
SELECT -1 AS level, coalesce(array_to_json(array_agg(city_id)), '[]')::text, NULL, NULL,
       coalesce(array_to_json(array_agg(CASE CAST(%(counted)s AS text) WHEN 'products' THEN products_count
                                             WHEN 'services' THEN services_count ELSE companies_count END)), '[]')::text
  FROM city_counts

-- name: cities
SELECT 0 AS level, coalesce(array_to_json(array_agg(id)), '[]')::text, coalesce(array_to_json(array_agg(label)), '[]')::text,
       '[]', coalesce(array_to_json(array_agg(count)), '[]')::text
  FROM (SELECT city.id::bigint, city.name AS label,
               coalesce(CASE CAST(%(counted)s AS text) WHEN 'products' THEN counted.products_count
                             WHEN 'services' THEN counted.services_count ELSE counted.companies_count END, 0) AS count
          FROM catalog_cities AS city
          LEFT JOIN city_counts AS counted ON counted.city_id = city.id
         ORDER BY city.id) AS city

-- name: cities_below_levels
SELECT 0 AS level, coalesce(array_to_json(array_agg(id)), '[]')::text, coalesce(array_to_json(array_agg(label)), '[]')::text,
       coalesce(array_to_json(array_agg(parents)), '[]')::text, coalesce(array_to_json(array_agg(count)), '[]')::text
  FROM (SELECT city.id::bigint, city.name AS label, place.parents,
               coalesce(CASE CAST(%(counted)s AS text) WHEN 'products' THEN counted.products_count
                             WHEN 'services' THEN counted.services_count ELSE counted.companies_count END, 0) AS count
          FROM catalog_cities AS city
          JOIN level_0_rows() AS place ON place.id = city.id
          LEFT JOIN city_counts AS counted ON counted.city_id = city.id
         ORDER BY city.id) AS city
