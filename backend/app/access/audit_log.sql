-- name: write
INSERT INTO audit_log (at, name, role, address, method, path, status, detail)
SELECT at, name, role, address, method, path, status, detail
  FROM jsonb_to_recordset(%(entries)s::jsonb) AS entry (
       at timestamptz, name text, role text, address text, method text, path text, status integer, detail text)

-- name: maker
-- Whoever made what has this address, at about this time.
SELECT name FROM audit_log
 WHERE at BETWEEN %(at)s::timestamptz - interval '1 minute' AND %(at)s::timestamptz + interval '1 minute'
   AND detail = %(made)s
 LIMIT 1

-- name: listed
SELECT id, at, name, role, address, method, path, status, detail
  FROM audit_log
 WHERE (CAST(%(before)s AS bigint) IS NULL OR id < %(before)s)
   AND (CAST(%(name)s AS text) IS NULL OR name = %(name)s)
 ORDER BY id DESC
 LIMIT %(limit)s
