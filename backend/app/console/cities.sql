-- The cities of the map. Ids travel as texts: a browser's numbers are exact up to 2^53 only. A place that is none, such
-- as NaN, which JSON does not know, is unknown; a name of any length is cut.

-- name: cities
-- All cities that readers see, with their counts.
SELECT city.id::text, left(city.name, 300), CASE WHEN city.latitude BETWEEN -90 AND 90 THEN city.latitude END,
       CASE WHEN city.longitude BETWEEN -180 AND 180 THEN city.longitude END,
       coalesce(products_count, 0), coalesce(services_count, 0), coalesce(companies_count, 0)
  FROM catalog_cities AS city LEFT JOIN city_counts AS counted ON counted.city_id = city.id
 ORDER BY city.id

-- name: counts_mark
-- Whether rows came or went, and until when changes are known.
SELECT count(*), coalesce(sum(city_id), 0), clock_timestamp() FROM city_counts

-- name: counts_changed
-- Rows that changed since an instant. An instant is the begin of the transaction that changed them, which may commit
-- later: ask with an overlap.
SELECT city.id::text, left(city.name, 300), CASE WHEN city.latitude BETWEEN -90 AND 90 THEN city.latitude END,
       CASE WHEN city.longitude BETWEEN -180 AND 180 THEN city.longitude END,
       products_count, services_count, companies_count
  FROM city_counts AS counted JOIN catalog_cities AS city ON city.id = counted.city_id
 WHERE counted.updated_at > %(since)s
