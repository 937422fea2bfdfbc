-- Sequences of ids beside rows whose ids somebody chose. {table} is cities, companies or products.

-- name: is_at_its_end
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('{table}', 'id')::regclass), 0) > 9223372036854775807 - %(room)s

-- name: catch_up
-- From the largest id down to the first one with room above it; few rows are read, unless all ids lie at the end.
SELECT setval(sequence, greatest(highest.id, CASE WHEN last <= 9223372036854775807 - %(room)s THEN last END, 1))
  FROM (SELECT pg_get_serial_sequence('{table}', 'id')::regclass) AS own (sequence)
 CROSS JOIN LATERAL pg_sequence_last_value(sequence) AS last
  LEFT JOIN (SELECT id
               FROM (SELECT id, lag(id, 1, 9223372036854775807) OVER (ORDER BY id DESC) AS above
                       FROM {table} WHERE id >= 0) AS taken
              WHERE above - id >= %(room)s
              ORDER BY id DESC LIMIT 1) AS highest ON true
