-- name: try_lead
-- One relay leads: a session lock that the server frees with the connection.
SELECT pg_try_advisory_lock(%(lock)s)

-- name: claim
-- The oldest rows above the floor, which only spares the scan of dead index entries: see floor.py; of these ids, where
-- some are named. At most so many rows, and so many bytes of images and one row more; images above `whole` stay here, and
-- the row says why. What is compressed would have to be unpacked to be measured, so it counts 64 times: it may have been
-- up to 255 times as large. Last, whether others wait behind them, and the newest row that this statement sees.
WITH oldest AS (
    SELECT id, event_id, type, subject, occurred_at, traceparent, before, after,
           coalesce(pg_column_size(before), 0) + coalesce(pg_column_size(after), 0) AS stored,
           coalesce(pg_column_compression(before), pg_column_compression(after)) IS NOT NULL AS is_packed
      FROM event_outbox
     WHERE id > %(floor)s AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[]))
     ORDER BY id
     LIMIT %(rows)s
), weighed AS (
    SELECT *, count(*) OVER () AS offered,
           sum(CASE WHEN is_packed THEN 64 * stored ELSE stored END)
                  OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS weight_before
      FROM oldest
), measured AS (
    SELECT *, CASE WHEN is_packed
                   THEN coalesce(octet_length(before::text), 0) + coalesce(octet_length(after::text), 0)
                   ELSE stored END AS size
      FROM weighed
     WHERE coalesce(weight_before, 0) < %(bytes)s
     ORDER BY id OFFSET 0  -- so that it is measured once
)
SELECT id, event_id::text, left(type, 256), left(subject, 256),
       to_char((CASE WHEN occurred_at BETWEEN '0001-01-02Z' AND '9999-12-31Z' THEN occurred_at ELSE clock_timestamp() END)
               AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       CASE WHEN size <= %(whole)s THEN before::text END,
       CASE WHEN size <= %(whole)s THEN after::text END,
       left(traceparent, 64),
       CASE WHEN size > %(whole)s THEN 'its row has ' || size || ' bytes, more than ' || %(whole)s END,
       offered = %(rows)s OR offered > count(*) OVER (),
       (SELECT max(id) FROM event_outbox)
  FROM measured
 ORDER BY id

-- name: newest
SELECT max(id) FROM event_outbox

-- name: arrivals
-- Which of the rows after `seen` may go before older ones that wait: those that no older row of their subject waits with.
SELECT id
  FROM (SELECT id, min(id) OVER (PARTITION BY subject) AS oldest FROM event_outbox WHERE id > %(floor)s) AS waiting
 WHERE id = oldest AND id > %(seen)s
 ORDER BY id DESC
 LIMIT %(rows)s

-- name: snapshot
-- Which transactions a statement sees now. It costs a tenth of a claim.
SELECT pg_current_snapshot()::text

-- name: await_transactions
-- Looked for `looks` times, after a pause of seconds before each, until others are seen than in that snapshot; the last
-- one that was seen. At READ COMMITTED each look is a statement of its own.
SELECT await_transactions(%(seen)s, %(looks)s, %(pause)s)

-- name: delete
DELETE FROM event_outbox WHERE id = ANY(%(ids)s::bigint[])

-- name: move
-- Delivered rows go into the log as the outbox held them, all or none; but canaries, of which none goes into the stream
-- either. Images above `whole` stay behind, so that no row is too large to leave; what is compressed is not unpacked for it.
WITH gone AS (
    DELETE FROM event_outbox WHERE id = ANY(%(ids)s::bigint[])
    RETURNING id, event_id, type, subject, occurred_at, before, after, traceparent,
              coalesce(pg_column_size(before), 0) + coalesce(pg_column_size(after), 0) > %(whole)s AS is_slim
), logged AS (
    INSERT INTO event_log (position, published_at, event_id, type, subject, occurred_at, before, after, traceparent, slim)
    SELECT %(next)s - 1 + row_number() OVER (ORDER BY id), now(), event_id, left(type, 256), left(subject, 256), occurred_at,
           CASE WHEN NOT is_slim THEN before END, CASE WHEN NOT is_slim THEN after END, left(traceparent, 64),
           CASE WHEN is_slim THEN 'its row is larger than ' || %(whole)s || ' bytes' END
      FROM gone
     WHERE type LIKE 'catalog.%%'
    RETURNING 1
)
SELECT count(*) FROM logged

-- name: use_log
-- Which log has the events from now on. It has all of them where none can have left the outbox before; before there was a
-- table, the stream was the log.
UPDATE event_log_source
   SET source = %(source)s, reason = %(reason)s,
       since = CASE WHEN source = %(source)s THEN since
                    WHEN source IS NULL AND (%(source)s = 'stream' OR coalesce(
                         (SELECT min(id) FROM event_outbox) = 1,
                         pg_sequence_last_value(pg_get_serial_sequence('event_outbox', 'id')::regclass) IS NULL)) THEN NULL
                    ELSE clock_timestamp() END
 WHERE (source, reason) IS DISTINCT FROM (%(source)s, %(reason)s)
RETURNING source

-- name: may_log
SELECT has_table_privilege('event_log', 'INSERT') AND has_function_privilege('make_event_log_days()', 'EXECUTE')

-- name: make_days
-- How many partitions of today and tomorrow lack still.
SELECT make_event_log_days()

-- name: bury
-- A row that the broker refuses in any form becomes a dead letter, which can be sent again.
WITH refused AS (
    DELETE FROM event_outbox WHERE id = %(id)s RETURNING event_id, type, subject
)
INSERT INTO dead_letters (kind, reason, subject, event_id, event_type, content_type, payload)
SELECT 'undeliverable', %(reason)s, left(subject, 256), event_id, left(type, 256), %(content_type)s, %(payload)s
  FROM refused

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
