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
SELECT id, kind, left(reason, 500) AS reason, subject, event_id, event_type, content_type,
       CASE jsonb_typeof(headers) WHEN 'object' THEN headers END AS headers, payload,
       payload_encoding, attempts, task_id, buried_at, requeued_at, closed_at, closed_because, closed_by
  FROM dead_letters
 WHERE (%(state)s = 'all' OR (closed_at IS NULL) = (%(state)s = 'open'))
   AND (CAST(%(kind)s AS text) IS NULL OR kind = %(kind)s)
   AND (CAST(%(reason)s AS text) IS NULL OR reason = %(reason)s)
   AND (CAST(%(group)s AS text) IS NULL OR md5(kind || ':' || reason) = %(group)s)
   AND (CAST(%(before)s AS bigint) IS NULL OR id < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s

-- name: reasons
SELECT kind, left(reason, 500), md5(kind || ':' || reason), count(*), min(buried_at), max(buried_at)
  FROM dead_letters WHERE closed_at IS NULL GROUP BY kind, reason ORDER BY count(*) DESC LIMIT 100

-- name: open_letters
SELECT count(*) FROM (SELECT FROM dead_letters WHERE closed_at IS NULL LIMIT %(most)s) AS letter

-- name: newest
SELECT coalesce(max(id), 0) FROM dead_letters

-- name: claim
-- Letters to send again, oldest first. A claim holds no lock: who claims sends without a transaction, then marks what
-- was sent. A claim whose process died before that ends by itself. What has only the beginning of its message stays.
WITH claimed AS (
SELECT id FROM dead_letters
 WHERE closed_at IS NULL
   AND (requeued_at IS NULL OR requeued_at < clock_timestamp() - %(seconds)s * interval '1 second')
   AND NOT coalesce(headers ? 'x-citycache-body-cut', false)
   AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[]))
   AND (CAST(%(kind)s AS text) IS NULL OR kind = %(kind)s)
   AND (CAST(%(reason)s AS text) IS NULL OR reason = %(reason)s)
   AND (CAST(%(group)s AS text) IS NULL OR md5(kind || ':' || reason) = %(group)s)
   AND id > %(after)s AND id <= %(newest)s
 ORDER BY id
 LIMIT %(limit)s
   FOR UPDATE SKIP LOCKED
)
UPDATE dead_letters AS letter SET requeued_at = clock_timestamp()
  FROM claimed WHERE letter.id = claimed.id
RETURNING letter.id, kind, subject, event_id, content_type,
          CASE jsonb_typeof(headers) WHEN 'object' THEN headers END AS headers, payload, payload_encoding

-- name: sent
-- One that a patch has closed meanwhile says so already.
UPDATE dead_letters SET closed_at = clock_timestamp(), closed_because = 'requeued'
 WHERE id = ANY(%(ids)s::bigint[]) AND closed_at IS NULL

-- name: unclaim
UPDATE dead_letters SET requeued_at = NULL WHERE id = ANY(%(ids)s::bigint[]) AND closed_at IS NULL
