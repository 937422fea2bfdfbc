-- Counts of cities, once an hour: the look itself, and a row for each city whose counts are others than at its last one.

-- name: begin_look
-- Nothing where this hour has had its look.
INSERT INTO count_looks (at)
SELECT clock_timestamp()
 WHERE NOT EXISTS (SELECT FROM count_looks
                    WHERE at BETWEEN date_trunc('hour', clock_timestamp()) AND clock_timestamp())
RETURNING at

-- name: write_changed
-- A city that has left has a row without counts.
INSERT INTO city_hours (city_id, at, products_count, services_count, companies_count)
SELECT city_id, %(at)s, counted.products_count, counted.services_count, counted.companies_count
  FROM (SELECT city_id FROM city_counts UNION SELECT city_id FROM city_hours) AS city
  LEFT JOIN city_counts AS counted USING (city_id)
  LEFT JOIN LATERAL (SELECT products_count, services_count, companies_count
                       FROM city_hours WHERE city_id = city.city_id ORDER BY at DESC LIMIT 1) AS last ON true
 WHERE (last.products_count, last.services_count, last.companies_count)
       IS DISTINCT FROM (counted.products_count, counted.services_count, counted.companies_count)

-- name: week
-- A city's counts at each look of the last seven days; NULL before its first row.
SELECT look.at, products_count AS products, services_count AS services, companies_count AS companies
  FROM count_looks AS look
  LEFT JOIN LATERAL (SELECT products_count, services_count, companies_count
                       FROM city_hours WHERE city_id = %(city)s AND at <= look.at ORDER BY at DESC LIMIT 1) AS counted ON true
 WHERE look.at BETWEEN clock_timestamp() - interval '7 days' AND clock_timestamp()
 ORDER BY look.at

-- name: findings
-- Rows of this city, as they were cached or should have been, and of its counts, that were found wrong; newest first.
SELECT id, found_at, cache, key, side, cached, wanted, last_patch, repaired_at AS mended_at
  FROM audit_findings
 WHERE (cache = 'counts' AND key = CAST(%(city)s AS text)) OR CAST(%(city)s AS text) IN (cached ->> 'city_id', wanted ->> 'city_id')
 ORDER BY id DESC LIMIT %(limit)s
