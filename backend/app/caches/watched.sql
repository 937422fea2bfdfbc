-- Rows of watched tables that have changed, and the ids that may move with them. What a watch asks for stands in
-- a function of its own, watch_1_ids(image) and so on; the statements that call one are made in watched.py.

-- name: watches_of
-- Which watches look at each of these changes; a change that is not kept any more, or says nothing, has none.
SELECT asked.id, watch.number, watch.noun
  FROM unnest(%(changes)s::bigint[]) AS asked (id)
  LEFT JOIN watched_changes AS change ON change.id = asked.id AND (change.before IS NOT NULL OR change.after IS NOT NULL)
  LEFT JOIN watches() AS watch ON watch.table_name = change.table_name
 ORDER BY asked.id, watch.number

-- name: companies_of
-- Companies that a change of each city touches: those that it has and those that are cached for it. At most `most` + 1
-- of each, enough to know that there are too many.
SELECT city_id, ARRAY(
           (SELECT id::bigint FROM catalog_companies AS company WHERE company.city_id = city.city_id
             ORDER BY id LIMIT %(most)s + 1)
           UNION
           (SELECT company_id FROM company_city_mapping AS mapping WHERE mapping.city_id = city.city_id
             ORDER BY company_id LIMIT %(most)s + 1))
  FROM unnest(%(cities)s::bigint[]) AS city (city_id)

-- name: next_companies
SELECT id FROM (
    (SELECT id::bigint FROM catalog_companies
      WHERE city_id = %(city)s AND (%(after)s IS NULL OR id > CAST(%(after)s AS bigint)) ORDER BY id LIMIT %(most)s)
    UNION
    (SELECT company_id FROM company_city_mapping
      WHERE city_id = %(city)s AND (%(after)s IS NULL OR company_id > CAST(%(after)s AS bigint))
      ORDER BY company_id LIMIT %(most)s)) AS part (id)
 ORDER BY id LIMIT %(most)s

-- name: request_wide_watch
-- Asking again while it is under way begins it anew: what it has done may be older than this request.
INSERT INTO wide_watches (change_id, number, event_id)
SELECT change_id, number, event_id
  FROM unnest(%(changes)s::bigint[], %(numbers)s::integer[], %(event_ids)s::text[]) AS request (change_id, number, event_id)
 ORDER BY change_id, number
ON CONFLICT (change_id, number) DO UPDATE
   SET generation = wide_watches.generation + 1, after_id = NULL, requested_at = now(), event_id = excluded.event_id

-- name: next_wide_watch
SELECT wide.change_id, wide.number, wide.generation, wide.after_id, wide.event_id, watch.noun
  FROM wide_watches AS wide LEFT JOIN watches() AS watch USING (number)
 ORDER BY requested_at, change_id, number LIMIT 1

-- name: advance_wide_watch
UPDATE wide_watches SET after_id = %(after)s
 WHERE change_id = %(change)s AND number = %(number)s AND generation = %(generation)s

-- name: finish_wide_watch
DELETE FROM wide_watches WHERE change_id = %(change)s AND number = %(number)s AND generation = %(generation)s
