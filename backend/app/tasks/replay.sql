-- name: load
SELECT marker, next_offset, first_offset, last_offset, events, keys, rows_changed, products, companies, cities, truncated
  FROM replays WHERE task_id = %(task_id)s::uuid

-- name: save
-- Keys gathered and not yet patched are kept with the offset, so going on from it loses none.
INSERT INTO replays (task_id, marker, next_offset, first_offset, last_offset, events, keys, rows_changed,
                     products, companies, cities, truncated)
VALUES (%(task_id)s::uuid, %(marker)s, %(next_offset)s, %(first_offset)s, %(last_offset)s, %(events)s, %(keys)s,
        %(rows_changed)s, %(products)s::bigint[], %(companies)s::bigint[], %(cities)s::bigint[], %(truncated)s)
ON CONFLICT (task_id) DO UPDATE
   SET next_offset = excluded.next_offset, first_offset = excluded.first_offset, last_offset = excluded.last_offset,
       events = excluded.events, keys = excluded.keys, rows_changed = excluded.rows_changed,
       products = excluded.products, companies = excluded.companies, cities = excluded.cities,
       truncated = excluded.truncated, updated_at = now()
