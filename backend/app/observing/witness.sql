-- What was written past capture. Statements that name a table of the catalog are made in witness.py and past_capture.py.

-- name: captured
-- The tables that are captured, with the server's own counters of what was written into all parts of each; a part that is
-- made, rewritten, emptied or taken away shows as well.
WITH RECURSIVE captured AS (
    SELECT role, table_name, to_regclass(table_name)::oid AS root FROM captured_tables()
), part AS (
    SELECT role, root AS oid FROM captured WHERE root IS NOT NULL
    UNION
    SELECT role, inhrelid FROM part JOIN pg_inherits ON inhparent = part.oid
)
SELECT role, table_name,
       string_agg(concat_ws(' ', oid, pg_relation_filenode(oid), pg_stat_get_tuples_inserted(oid),
                            pg_stat_get_tuples_updated(oid)), ',' ORDER BY oid) AS written,
       string_agg(concat_ws(' ', oid, pg_relation_filenode(oid), pg_stat_get_tuples_deleted(oid)), ',' ORDER BY oid) AS gone
  FROM captured JOIN part USING (role)
 GROUP BY role, table_name ORDER BY role

-- name: mark
-- A transaction number; whoever has a higher one began to write later.
SELECT pg_current_xact_id()::xid::text

-- name: horizon
-- Each row that this snapshot does not see yet is of this transaction or a higher one.
SELECT pg_snapshot_xmin(pg_current_snapshot())::xid::text

-- name: id_column
-- The key of a table, as SQL writes it: by its name in the catalog, else as SQL would read it.
SELECT coalesce((SELECT quote_ident(attname) FROM pg_attribute
                  WHERE attrelid = to_regclass(%(table)s) AND attname = %(name)s AND attnum > 0 AND NOT attisdropped),
                quote_ident((parse_ident(%(name)s))[1]))

-- name: watches
SELECT number, noun, watch.table_name AS plain, captured.table_name AS sql, captured.columns
  FROM captured_tables() AS captured
  JOIN pg_class AS relation ON relation.oid = to_regclass(captured.table_name)
  JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
  JOIN watches() AS watch ON watch.table_name = nspname || '.' || relname
 WHERE role ~ '^watched' ORDER BY number

-- name: disagreeing
-- Whether the counts of any of these cities are not those of the mappings, or were not a short time ago: the one writer
-- moves both together.
SELECT EXISTS (
    SELECT FROM audit_findings
     WHERE cache = 'counts' AND side = 'different' AND key = ANY(%(cities)s::bigint[]::text[])
       AND found_at > now() - %(seconds)s * interval '1 second'
) OR EXISTS (
    SELECT FROM unnest(%(cities)s::bigint[]) AS city (id) LEFT JOIN city_counts ON city_id = city.id
     WHERE (coalesce(products_count, 0), coalesce(services_count, 0), coalesce(companies_count, 0))
        <> ((SELECT count(*) FROM product_city_mapping AS m WHERE m.city_id = city.id AND kind <> 'service'),
            (SELECT count(*) FROM product_city_mapping AS m WHERE m.city_id = city.id AND kind = 'service'),
            (SELECT count(*) FROM company_city_mapping AS m WHERE m.city_id = city.id)))

-- name: in_outbox
SELECT subject FROM event_outbox WHERE subject = ANY(%(subjects)s::text[]) OR type LIKE '%%.truncated'

-- name: logged_image
-- Of an event that a log which is a table has; no row: that log does not have it.
SELECT after::text FROM event_log WHERE position = %(offset)s AND event_id = %(event)s::uuid AND slim IS NULL

-- name: found_lately
-- Companies that were wrong a short time ago.
SELECT key FROM audit_findings
 WHERE cache = 'companies' AND key = ANY(%(keys)s::text[]) AND found_at > now() - %(seconds)s * interval '1 second'

-- name: told_lately
-- Those of the ids that rows of a watched table decide about, of which capture has told a short time ago.
SELECT DISTINCT moved.id
  FROM watched_changes AS change
 CROSS JOIN LATERAL (SELECT id FROM watch_ids(change.before) UNION SELECT id FROM watch_ids(change.after)) AS moved
 WHERE table_name = %(plain)s AND changed_at > now() - %(seconds)s * interval '1 second'
   AND change.id > (SELECT max(id) - 10000 FROM watched_changes) AND moved.id = ANY(%(ids)s::bigint[])
