-- name: bury
INSERT INTO dead_letters (kind, reason, subject, event_id, event_type, content_type, headers, payload, payload_encoding,
                          attempts, task_id)
SELECT kind, reason, subject, event_id, event_type, content_type, headers, payload, payload_encoding, attempts, %(task_id)s::uuid
  FROM jsonb_to_recordset(%(letters)s::jsonb) AS letter (
       kind text, reason text, subject text, event_id text, event_type text, content_type text, headers jsonb,
       payload text, payload_encoding text, attempts integer)

-- name: any_open
SELECT EXISTS (SELECT FROM dead_letters WHERE closed_at IS NULL AND subject IS NOT NULL)

-- name: close_patched
-- A later patch of the key has succeeded, so the letter has nothing left to say.
UPDATE dead_letters
   SET closed_at = clock_timestamp(), closed_because = 'a later patch of ' || subject || ' succeeded', closed_by = %(task_id)s::uuid
 WHERE closed_at IS NULL AND subject = ANY(%(subjects)s::text[])

-- name: listed
SELECT id, kind, reason, subject, event_id, event_type, content_type, headers, payload, payload_encoding, attempts,
       task_id, buried_at, requeued_at, closed_at, closed_because, closed_by
  FROM dead_letters
 WHERE (%(state)s = 'all' OR (closed_at IS NULL) = (%(state)s = 'open'))
   AND (%(kind)s::text IS NULL OR kind = %(kind)s)
   AND (%(reason)s::text IS NULL OR reason = %(reason)s)
   AND (%(before)s::bigint IS NULL OR id < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s

-- name: reasons
SELECT kind, reason, count(*), min(buried_at), max(buried_at)
  FROM dead_letters WHERE closed_at IS NULL GROUP BY kind, reason ORDER BY count(*) DESC LIMIT 100

-- name: take
-- Letters to send again; requeueing closes them, and whatever fails again is buried anew.
SELECT id, kind, reason, subject, event_id, event_type, content_type, headers, payload, payload_encoding, attempts
  FROM dead_letters
 WHERE closed_at IS NULL
   AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[]))
   AND (%(kind)s::text IS NULL OR kind = %(kind)s)
   AND (%(reason)s::text IS NULL OR reason = %(reason)s)
   AND id > %(after)s
 ORDER BY id
 LIMIT %(limit)s
   FOR UPDATE SKIP LOCKED

-- name: requeued
UPDATE dead_letters
   SET requeued_at = clock_timestamp(), closed_at = clock_timestamp(), closed_because = 'requeued'
 WHERE id = ANY(%(ids)s::bigint[])

-- name: prune
DELETE FROM dead_letters WHERE id IN (
    SELECT id FROM dead_letters WHERE closed_at < now() - %(days)s * interval '1 day' LIMIT %(rows)s)
