-- Each deletes up to %(rows)s rows that are older than %(seconds)s, by an index on their age; `retention.py` says how old,
-- and repeats them until nothing is left.

-- name: event_runs
DELETE FROM task_runs WHERE task_id IN (
    SELECT task_id FROM task_runs
     WHERE trigger = 'event' AND queued_at < now() - %(seconds)s * interval '1 second' AND state NOT IN ('STARTED', 'RETRY')
     LIMIT %(rows)s)

-- name: runs
DELETE FROM task_runs WHERE task_id IN (
    SELECT task_id FROM task_runs
     WHERE trigger <> 'event' AND queued_at < now() - %(seconds)s * interval '1 second' AND state NOT IN ('STARTED', 'RETRY')
     LIMIT %(rows)s)

-- name: patches
DELETE FROM patches WHERE id IN (
    SELECT id FROM patches WHERE patched_at < now() - %(seconds)s * interval '1 second' ORDER BY patched_at LIMIT %(rows)s)

-- name: removed_keys
-- A removal is kept as long as the patch that made it.
DELETE FROM removed_keys WHERE ctid = ANY (ARRAY(
    SELECT removed.ctid FROM removed_keys AS removed
     WHERE patch_id < (SELECT coalesce(min(id), 0) FROM patches) LIMIT %(rows)s))

-- name: judgements
DELETE FROM judgements WHERE id IN (
    SELECT id FROM judgements WHERE ends_at < now() - %(seconds)s * interval '1 second' LIMIT %(rows)s)

-- name: looks
-- Of judgements that are over, or that nobody has ended.
DELETE FROM looks WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM looks
     WHERE NOT EXISTS (SELECT FROM judgements WHERE judgements.id = looks.judgement
                          AND ends_at >= now() - %(seconds)s * interval '1 second')
     LIMIT %(rows)s))

-- name: city_changes
-- Those that had ended when one that is so old was written: who asks at least so often has been told of them.
DELETE FROM city_changes WHERE xid IN (
    SELECT xid FROM city_changes
     WHERE xid < (SELECT all_ended_below FROM city_changes
                   WHERE written_at < now() - %(seconds)s * interval '1 second' ORDER BY xid DESC LIMIT 1)
     LIMIT %(rows)s)

-- name: replays
DELETE FROM replays WHERE task_id IN (
    SELECT task_id FROM replays WHERE updated_at < now() - %(seconds)s * interval '1 second' LIMIT %(rows)s)

-- name: dead_letters
DELETE FROM dead_letters WHERE id IN (
    SELECT id FROM dead_letters WHERE closed_at < now() - %(seconds)s * interval '1 second' LIMIT %(rows)s)

-- name: audit_log
DELETE FROM audit_log WHERE id IN (
    SELECT id FROM audit_log WHERE at < now() - %(seconds)s * interval '1 second' ORDER BY at LIMIT %(rows)s)

-- name: watched_changes
-- As long as an event in the log may name one, and while a wide patch of it waits.
DELETE FROM watched_changes WHERE id IN (
    SELECT id FROM watched_changes AS change
     WHERE changed_at < now() - %(seconds)s * interval '1 second'
       AND NOT EXISTS (SELECT FROM wide_watches WHERE change_id = change.id) LIMIT %(rows)s)

-- name: event_log
-- Partitions of days that are over, and rows of such days that have none.
SELECT FROM forget_events(%(seconds)s, %(rows)s)

-- name: observations
DELETE FROM observations WHERE at IN (
    SELECT at FROM observations WHERE at < now() - %(seconds)s * interval '1 second' LIMIT %(rows)s)

-- name: audit_minutes
DELETE FROM audit_minutes WHERE (minute, cache) IN (
    SELECT minute, cache FROM audit_minutes WHERE minute < now() - %(seconds)s * interval '1 second' LIMIT %(rows)s)

-- name: audit_findings
DELETE FROM audit_findings WHERE id IN (
    SELECT id FROM audit_findings WHERE found_at < now() - %(seconds)s * interval '1 second'
     AND repaired_at IS NOT NULL LIMIT %(rows)s)

-- name: passed_tables
DELETE FROM passed_tables WHERE (found_at, table_name) IN (
    SELECT found_at, table_name FROM passed_tables
     WHERE found_at < now() - %(seconds)s * interval '1 second' LIMIT %(rows)s)

-- name: count_looks
DELETE FROM count_looks WHERE at IN (
    SELECT at FROM count_looks WHERE at < now() - %(seconds)s * interval '1 second' LIMIT %(rows)s)

-- name: city_hours
-- What holds still at the beginning of a week's plot stays.
DELETE FROM city_hours WHERE (city_id, at) IN (
    SELECT city_id, at FROM city_hours AS old
     WHERE at < now() - %(seconds)s * interval '1 second'
       AND (products_count IS NULL
            OR EXISTS (SELECT FROM city_hours AS newer
                        WHERE newer.city_id = old.city_id AND newer.at > old.at AND newer.at < now() - interval '7 days'))
     ORDER BY at LIMIT %(rows)s)

-- name: incidents
-- Those that are over; by their index on their beginning, which lies before their end.
DELETE FROM incidents WHERE id IN (
    SELECT id FROM incidents
     WHERE began_at < now() - %(seconds)s * interval '1 second' AND ended_at < now() - %(seconds)s * interval '1 second'
     LIMIT %(rows)s)
