-- name: source
-- The log that the relay fills, since when it has every event (null: always), and why it is no stream where it is none.
SELECT source, since, reason FROM event_log_source

-- name: first
-- The oldest event that is still there.
SELECT position,
       to_char((CASE WHEN occurred_at BETWEEN '0001-01-02Z' AND '9999-12-31Z' THEN occurred_at ELSE published_at END)
               AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  FROM event_log WHERE position >= (SELECT first_position FROM event_log_source) ORDER BY position LIMIT 1

-- name: next_position
-- One past the last.
SELECT greatest(first_position, (SELECT max(position) + 1 FROM event_log)) FROM event_log_source

-- name: page
-- Events from a position on, of those published since then, by the primary key alone; times as the relay writes them.
SELECT position, floor(extract(epoch FROM published_at))::float8, event_id::text, type, subject,
       to_char((CASE WHEN occurred_at BETWEEN '0001-01-02Z' AND '9999-12-31Z' THEN occurred_at ELSE published_at END)
               AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       traceparent
  FROM event_log
 WHERE position >= greatest(%(position)s, (SELECT first_position FROM event_log_source)) AND position < %(end)s
   AND published_at >= %(since)s
 ORDER BY position
 LIMIT %(rows)s
