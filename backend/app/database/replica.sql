-- Whether a replica has what its primary has committed.

-- name: written
-- The end of the log, also of what is not flushed yet (synchronous_commit = off). At the start of a page the position
-- stands behind the page's header of 24 or 40 bytes, where no replica is before something follows.
SELECT (position - CASE WHEN inside IN (24, 40) THEN inside ELSE 0 END)::text
  FROM (SELECT pg_current_wal_insert_lsn() AS position) AS log,
       LATERAL (SELECT mod(pg_wal_lsn_diff(position, '0/0'), current_setting('wal_block_size')::numeric) AS inside) AS page

-- name: has_replayed
SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= %(position)s::pg_lsn

-- name: clock
-- The primary's, and since when it runs, by which it is known again.
SELECT clock_timestamp() AS at, pg_postmaster_start_time() AS started

-- name: replayed
-- Whether this server follows a primary, or is the one that was asked, and by how many seconds what it shows is older than
-- what was committed there at `at`, at most. Null: nobody can say, since the primary was not asked or nothing came yet.
SELECT follows, CASE WHEN is_primary THEN CASE WHEN follows THEN 0.0 END
                     WHEN pg_last_wal_replay_lsn() >= %(position)s::pg_lsn OR age < 0 THEN 0.0
                     ELSE age END::float8 AS behind_seconds
  FROM (SELECT NOT pg_is_in_recovery() AS is_primary,
               pg_is_in_recovery() OR pg_postmaster_start_time() = %(started)s::timestamptz AS follows,
               extract(epoch FROM %(at)s::timestamptz - pg_last_xact_replay_timestamp()) AS age) AS seen
