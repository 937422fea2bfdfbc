-- name: write
INSERT INTO audit_log (at, name, role, address, method, path, status, detail)
SELECT at, name, role, address, method, path, status, detail
  FROM jsonb_to_recordset(%(entries)s::jsonb) AS entry (
       at timestamptz, name text, role text, address text, method text, path text, status integer, detail text)

-- name: listed
SELECT id, at, name, role, address, method, path, status, detail
  FROM audit_log
 WHERE (CAST(%(before)s AS bigint) IS NULL OR id < %(before)s)
   AND (CAST(%(name)s AS text) IS NULL OR name = %(name)s)
 ORDER BY id DESC
 LIMIT %(limit)s
