-- name: lost
-- Runs under way for longer than the grace that no session belongs to.
SELECT task_id::text, task, trigger, coalesce(arguments, '{}')
  FROM task_runs AS run
 WHERE state IN ('PENDING', 'STARTED', 'RETRY') AND NOT (state = 'PENDING' AND coalesce(expires_at < now(), false))
   AND coalesce(started_at, queued_at) < clock_timestamp() - %(seconds)s * interval '1 second'
   AND NOT EXISTS (SELECT FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'citycache run ' || task_id)
 ORDER BY queued_at
 LIMIT 100

-- name: timeline
-- Of the server's log of changes: a promotion begins another one.
SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)

-- name: unattended_wide
-- Whether wide patches wait and no run is there to work them off.
SELECT EXISTS (SELECT FROM wide_requests)
   AND NOT EXISTS (SELECT FROM task_runs WHERE task = 'apply_wide_patches' AND state IN ('PENDING', 'STARTED', 'RETRY'))
