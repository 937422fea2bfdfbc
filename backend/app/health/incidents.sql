-- Incidents: one open row for each kind and subject.

-- name: begin
-- What is wrong now. One that is open keeps its beginning, or takes an earlier one from a watcher that saw it before.
INSERT INTO incidents (kind, subject, began_at, values)
SELECT kind, subject, began_at, values
  FROM jsonb_to_recordset(%(wrong)s::jsonb) AS wrong (kind text, subject text, began_at timestamptz, values jsonb)
 ORDER BY kind, subject
ON CONFLICT (kind, subject) WHERE ended_at IS NULL DO UPDATE
   SET values = excluded.values, began_at = least(incidents.began_at, excluded.began_at)
 WHERE (incidents.values, incidents.began_at) IS DISTINCT FROM (excluded.values, least(incidents.began_at, excluded.began_at))

-- name: end
-- What is open and not wrong any more; of parts that nobody can judge now, incidents stay open.
UPDATE incidents
   SET ended_at = clock_timestamp()
 WHERE ended_at IS NULL
   AND kind <> ALL (%(undecided)s::text[])
   AND (kind, subject) NOT IN (SELECT kind, subject
                                 FROM jsonb_to_recordset(%(wrong)s::jsonb) AS wrong (kind text, subject text))

-- name: write_ended
-- What began and ended while the database was away.
INSERT INTO incidents (kind, subject, began_at, ended_at, values)
SELECT kind, subject, began_at, ended_at, values
  FROM jsonb_to_recordset(%(ended)s::jsonb)
       AS ended (kind text, subject text, began_at timestamptz, ended_at timestamptz, values jsonb)

-- name: open
SELECT id, kind, subject, began_at, ended_at, values FROM incidents WHERE ended_at IS NULL ORDER BY began_at, id

-- name: well_since
-- Since when nothing was wrong, as far as anybody watched.
SELECT coalesce((SELECT max(ended_at) FROM incidents), (SELECT min(at) FROM observations))

-- name: listed
SELECT id, kind, subject, began_at, ended_at, values
  FROM incidents
 WHERE (CAST(%(kind)s AS text) IS NULL OR kind = %(kind)s)
   AND (NOT %(open)s OR ended_at IS NULL)
   AND (%(since)s::timestamptz IS NULL OR coalesce(ended_at, 'infinity') >= %(since)s)
   AND (CAST(%(before)s AS bigint) IS NULL OR id < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s

-- name: of_a_city
-- What kept changes of every city from the caches in the last seven days, and what was open while a row of this city was
-- wrong; newest first.
SELECT id, kind, subject, began_at, ended_at, values
  FROM incidents
 WHERE coalesce(ended_at, 'infinity') >= now() - interval '7 days'
   AND (kind = ANY (%(of_all)s::text[])
        OR kind = 'rows_wrong' AND EXISTS (
               SELECT FROM jsonb_to_recordset(%(wrong)s::jsonb) AS wrong (found_at timestamptz, mended_at timestamptz)
                WHERE coalesce(mended_at, 'infinity') >= began_at
                  AND found_at <= coalesce(ended_at, 'infinity')))
 ORDER BY id DESC LIMIT %(limit)s

-- name: between
-- What was wrong in this time, the longest first.
SELECT id, kind, subject, began_at, ended_at, values
  FROM incidents
 WHERE began_at <= %(end)s AND coalesce(ended_at, 'infinity') >= %(begin)s
 ORDER BY coalesce(ended_at, now()) - began_at DESC, id
 LIMIT %(limit)s
