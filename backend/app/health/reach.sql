-- name: applied_since
-- Now, and the end of the first observation of these days in which events moved cached rows, in seconds since the epoch.
-- What is applied alone would not do: canaries are, and none of them is in the log.
SELECT extract(epoch FROM now())::float8,
       (SELECT extract(epoch FROM at)::float8 FROM observations
         WHERE at > now() - %(days)s * interval '1 day' AND patched > 0 ORDER BY at LIMIT 1)
