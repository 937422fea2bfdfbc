-- What a new connection says before anything else. It goes through poolers, which refuse most parameters of a startup
-- packet. Every name has its schema: the search path is not ours yet.

-- name: mark
-- Leave a mark in the session; the mark that was there is another client's, who had this session before. Whoever has
-- no right to be slow (a tiny statement_timeout of the role) is freed of that first.
SELECT pg_catalog.set_config('statement_timeout', %(statement_timeout)s, false),
       pg_catalog.current_setting('citycache.session', true),
       pg_catalog.set_config('citycache.session', %(mark)s, false)

-- name: ask
-- Set what differs from what is wanted: some settings may only be touched by a superuser, and most are right already.
-- A setting that this server does not know is NULL here.
SELECT pg_catalog.set_config(wanted.name, wanted.value, false)
  FROM ROWS FROM (pg_catalog.unnest(%(names)s::text[]), pg_catalog.unnest(%(values)s::text[]),
                 pg_catalog.unnest(%(accepted)s::text[])) AS wanted (name, value, accepted)
 WHERE pg_catalog.current_setting(wanted.name, true) OPERATOR(pg_catalog.<>) ALL (
           pg_catalog.string_to_array(wanted.accepted, '|'))
   AND pg_catalog.current_setting(wanted.name, true) OPERATOR(pg_catalog.<>) wanted.value

-- name: marked
SELECT pg_catalog.current_setting('citycache.session', true)
