-- Incidents that the webhook has not told of. What ended more than a day ago is not told any more.

-- name: untold
SELECT id, kind, subject, began_at, ended_at, values,
       begin_told_at IS NULL AS begins, ended_at IS NOT NULL AND end_told_at IS NULL AS ends
  FROM incidents
 WHERE (begin_told_at IS NULL OR (ended_at IS NOT NULL AND end_told_at IS NULL))
   AND coalesce(ended_at, 'infinity') > now() - interval '1 day'
   AND id <> ALL (%(refused)s::bigint[])
 ORDER BY id
 LIMIT %(limit)s

-- name: begin_told
UPDATE incidents SET begin_told_at = clock_timestamp() WHERE id = %(id)s

-- name: end_told
UPDATE incidents SET end_told_at = clock_timestamp() WHERE id = %(id)s
