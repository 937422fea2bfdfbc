-- Whether a replica has what its primary has committed.

-- name: written
-- The end of the log, also of what is not flushed yet (synchronous_commit = off). At the start of a page the position
-- stands behind the page's header of 24 or 40 bytes, where no replica is before something follows.
SELECT (position - CASE WHEN inside IN (24, 40) THEN inside ELSE 0 END)::text
  FROM (SELECT pg_current_wal_insert_lsn() AS position) AS log,
       LATERAL (SELECT mod(pg_wal_lsn_diff(position, '0/0'), current_setting('wal_block_size')::numeric) AS inside) AS page

-- name: has_replayed
SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= %(position)s::pg_lsn
