-- Database roles with least rights: what each process may do, and nothing else. `citycache migrate --roles` runs the
-- statements in this order, in one transaction; they may run again at any time, and take back what is not written here.
--
-- citycache_migrate   owns all of it and may change the schema; no process that runs all day logs in as it
-- citycache_api       writes the catalog, reads the caches, starts runs, requeues dead letters, appends to the audit log
-- citycache_relay     reads the outbox, deletes what the broker has or moves it into the log, buries what it refuses
-- citycache_worker    reads the catalog and writes the caches, the ledger and the dead letters; prunes the audit log
-- citycache_beat      announces runs in the ledger
-- citycache_observer  the worker's rights on the caches, and the observer's own tables

-- name: create
-- Each of these roles that is not there yet; nobody can log in as one before it has a password.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['migrate', 'api', 'relay', 'worker', 'beat', 'observer'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'citycache_' || role) THEN
            EXECUTE 'CREATE ROLE citycache_' || role || ' LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION';
        END IF;
    END LOOP;
END $$

-- name: own
-- Everything of ours belongs to citycache_migrate: the capture functions write the outbox with its rights.
DO $$
DECLARE
    thing text;
    everybody text := ' FROM PUBLIC, citycache_api, citycache_relay, citycache_worker, citycache_beat, citycache_observer';
BEGIN
    IF current_user <> 'citycache_migrate' THEN
        GRANT citycache_migrate TO CURRENT_USER;
    END IF;
    FOREACH thing IN ARRAY ARRAY[
        'cities', 'companies', 'products', 'event_outbox', 'product_city_mapping', 'company_city_mapping', 'city_counts',
        'active_cities_cache', 'city_changes', 'patches', 'removed_keys', 'judgements', 'looks', 'wide_patches', 'watched_changes',
        'wide_watches', 'applied_definition', 'task_runs', 'dead_letters', 'replays', 'replay_keys',
        'observations', 'audit_minutes', 'audit_findings', 'incidents', 'passed_tables', 'count_looks', 'city_hours', 'canaries', 'canary_cache', 'audit_log', 'alembic_version',
        'wide_patch_of_everything', 'wide_requests', 'event_log', 'event_log_default', 'event_log_source',
        'product_city_truth', 'company_city_truth',
        'catalog_cities', 'catalog_companies', 'catalog_products'] LOOP
        EXECUTE 'ALTER TABLE public.' || thing || ' OWNER TO citycache_migrate';
        EXECUTE 'REVOKE ALL ON public.' || thing || everybody;
    END LOOP;
    FOREACH thing IN ARRAY ARRAY['capture_inserted', 'capture_updated', 'capture_deleted', 'capture_truncated', 'capture_canary'] LOOP
        EXECUTE 'ALTER FUNCTION public.' || thing || '() OWNER TO citycache_migrate';
        EXECUTE 'REVOKE ALL ON FUNCTION public.' || thing || '() FROM PUBLIC';
    END LOOP;
    FOREACH thing IN ARRAY ARRAY['city_rows', 'company_rows', 'product_rows', 'catalog_tables', 'watches', 'request_everything'] LOOP
        EXECUTE 'ALTER FUNCTION public.' || thing || '() OWNER TO citycache_migrate';
    END LOOP;
    FOR thing IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'public.event_log'::regclass LOOP
        EXECUTE 'ALTER TABLE ' || thing || ' OWNER TO citycache_migrate';
    END LOOP;
    FOREACH thing IN ARRAY ARRAY['make_event_log_days()', 'note_unlogged()', 'note_city_change()', 'forget_events(double precision, integer)',
        'await_transactions(text, integer, double precision)'] LOOP
        EXECUTE 'ALTER FUNCTION public.' || thing || ' OWNER TO citycache_migrate';
        EXECUTE 'REVOKE ALL ON FUNCTION public.' || thing || everybody;
    END LOOP;
    FOR thing IN SELECT pg_get_serial_sequence('public.' || name, 'id')
                   FROM unnest(ARRAY['cities', 'companies', 'products', 'event_outbox', 'patches', 'dead_letters',
                                     'audit_findings', 'incidents', 'audit_log']) AS name LOOP
        EXECUTE 'REVOKE ALL ON SEQUENCE ' || thing || everybody;
    END LOOP;
END $$

-- name: grant_all
-- The schema, and the version by which a process sees whether it fits.
GRANT USAGE, CREATE ON SCHEMA public TO citycache_migrate;
GRANT USAGE ON SCHEMA public TO citycache_api, citycache_relay, citycache_worker, citycache_beat, citycache_observer;
GRANT SELECT ON alembic_version TO citycache_api, citycache_relay, citycache_worker, citycache_beat, citycache_observer

-- name: grant_api
GRANT SELECT, INSERT, UPDATE, DELETE ON cities, companies, products TO citycache_api;
GRANT SELECT ON wide_patch_of_everything, wide_requests TO citycache_api;
GRANT SELECT, UPDATE ON SEQUENCE cities_id_seq, companies_id_seq, products_id_seq TO citycache_api;
GRANT SELECT ON event_outbox, product_city_mapping, company_city_mapping, city_counts, active_cities_cache, city_changes, patches,
    removed_keys, wide_patches, watched_changes, wide_watches, applied_definition, product_city_truth,
    company_city_truth, catalog_cities, catalog_companies,
    catalog_products, observations, audit_minutes, audit_findings,
    incidents, passed_tables, count_looks, city_hours, event_log_source TO citycache_api;
GRANT SELECT ON SEQUENCE event_outbox_id_seq, audit_findings_id_seq TO citycache_api;
GRANT SELECT, INSERT, UPDATE ON task_runs TO citycache_api;
GRANT SELECT, UPDATE ON dead_letters TO citycache_api;
GRANT SELECT, INSERT ON audit_log TO citycache_api

-- name: grant_relay
GRANT SELECT, DELETE ON event_outbox TO citycache_relay;
GRANT SELECT, INSERT ON event_log TO citycache_relay;
GRANT SELECT, UPDATE (source, since, reason) ON event_log_source TO citycache_relay;
GRANT EXECUTE ON FUNCTION make_event_log_days() TO citycache_relay;
GRANT EXECUTE ON FUNCTION await_transactions(text, integer, double precision) TO citycache_relay;
GRANT INSERT ON dead_letters TO citycache_relay;
GRANT SELECT ON SEQUENCE event_outbox_id_seq TO citycache_relay

-- name: grant_writers_of_caches
GRANT SELECT ON cities, companies, products, event_outbox, product_city_truth, company_city_truth, catalog_cities,
    catalog_companies, catalog_products
    TO citycache_worker, citycache_observer;
GRANT SELECT, INSERT, UPDATE, DELETE ON product_city_mapping, company_city_mapping, city_counts, active_cities_cache,
    removed_keys, judgements, looks TO citycache_worker, citycache_observer;
GRANT SELECT, INSERT ON patches TO citycache_worker, citycache_observer;
GRANT USAGE ON SEQUENCE patches_id_seq TO citycache_worker, citycache_observer

-- name: grant_worker
GRANT SELECT ON canaries TO citycache_worker;
GRANT SELECT, INSERT, UPDATE ON canary_cache TO citycache_worker;
GRANT DELETE ON patches TO citycache_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON wide_patch_of_everything TO citycache_worker;
GRANT SELECT ON wide_requests TO citycache_worker;
GRANT SELECT, DELETE ON watched_changes, city_changes TO citycache_worker;
GRANT SELECT ON applied_definition TO citycache_worker, citycache_observer;
GRANT SELECT, INSERT, UPDATE, DELETE ON wide_patches, wide_watches, task_runs, dead_letters, replays,
    replay_keys
    TO citycache_worker;
GRANT SELECT ON event_log, event_log_source TO citycache_worker;
GRANT EXECUTE ON FUNCTION forget_events(double precision, integer) TO citycache_worker;
GRANT SELECT (id, at), DELETE ON audit_log TO citycache_worker

-- name: grant_beat
GRANT SELECT, INSERT, UPDATE ON task_runs TO citycache_beat

-- name: grant_observer
GRANT SELECT, INSERT, UPDATE ON canaries TO citycache_observer;
GRANT SELECT ON canary_cache TO citycache_observer;
GRANT SELECT ON wide_patch_of_everything, wide_requests TO citycache_observer;
GRANT SELECT ON task_runs, wide_patches, wide_watches, dead_letters, event_log_source TO citycache_observer;
GRANT SELECT ON SEQUENCE event_outbox_id_seq TO citycache_observer;
GRANT SELECT ON event_log, watched_changes TO citycache_observer;
GRANT SELECT, INSERT, UPDATE, DELETE ON observations, audit_minutes, audit_findings, incidents, passed_tables,
    count_looks, city_hours TO citycache_observer
