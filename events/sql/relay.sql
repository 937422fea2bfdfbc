-- name: try_lead
-- One relay leads: a session lock that the server frees with the connection.
SELECT pg_try_advisory_lock(%(lock)s)

-- name: claim
-- The oldest rows above the floor. The floor only spares the scan of dead index entries, see outbox.Claims.
SELECT id, event_id::text, type, subject, to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       before::text, after::text, traceparent
  FROM event_outbox
 WHERE id > %(floor)s
 ORDER BY id
 LIMIT %(rows)s

-- name: delete
DELETE FROM event_outbox WHERE id = ANY(%(ids)s::bigint[])

-- name: last_id
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('event_outbox', 'id')::regclass), 0)

-- name: newest_transaction
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint

-- name: oldest_transaction
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- name: lag
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(occurred_at)), 0)::float8 FROM event_outbox
