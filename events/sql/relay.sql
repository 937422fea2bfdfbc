-- name: try_lead
-- One relay leads: a session lock that the server frees with the connection.
SELECT pg_try_advisory_lock(%(lock)s)

-- name: claim
-- The oldest rows above the floor, which only spares the scan of dead index entries: see floor.py.
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

-- name: next_transaction
-- A number for this transaction, which is above those of all that write already.
SELECT pg_current_xact_id()::text

-- name: settled
-- Whether all transactions before this one have ended, and then the lowest row up to `last`, all in one snapshot.
WITH ended AS (
    SELECT pg_snapshot_xmin(pg_current_snapshot()) >= %(transaction)s::xid8 AS all_before
)
SELECT all_before,
       CASE WHEN all_before THEN (SELECT min(id) FROM event_outbox WHERE id > %(floor)s AND id <= %(last)s) END
  FROM ended

-- name: below
-- The lowest row that no claim would find.
SELECT min(id) FROM event_outbox WHERE id <= %(floor)s

-- name: lag
-- How many rows wait, and the age of the oldest of those that come first. Beyond some rows the number follows from their
-- ids: counting millions takes longer than whoever asks may wait.
SELECT CASE WHEN count(*) <= 20000 THEN count(*)
            ELSE greatest(count(*), 1 - min(id) + pg_sequence_last_value(pg_get_serial_sequence('event_outbox', 'id')::regclass))
       END, coalesce(extract(epoch FROM clock_timestamp() - min(occurred_at)), 0)::float8
  FROM (SELECT id, occurred_at FROM event_outbox ORDER BY id LIMIT 20001) AS first
