"""The outbox and the triggers that capture every change of the catalog."""

from alembic import op

revision = "0002"
down_revision = "0001"

OUTBOX = """
-- The outbox: events that are committed and not yet confirmed by the broker.
-- Rows live for milliseconds, so vacuum must come often and never pause.
CREATE TABLE event_outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    event_id    uuid NOT NULL DEFAULT gen_random_uuid(),
    type        text NOT NULL,
    subject     text NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    before      json,
    after       json,
    traceparent text DEFAULT nullif(current_setting('citycache.traceparent', true), '')
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000
);
"""

CAPTURE = """
-- Capture: statement triggers write one outbox row for each changed row, in the writer's own transaction.
-- The argument of each trigger is the noun. Rows are compared by their binary image (*<>), which works for
-- every column type; old and new rows meet by id, and a changed id counts as a deletion and a creation.

CREATE OR REPLACE FUNCTION capture_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, after)
    SELECT 'catalog.' || TG_ARGV[0] || '.created', TG_ARGV[0] || '/' || fresh.id, row_to_json(fresh)
      FROM new_rows AS fresh;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION capture_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, before)
    SELECT 'catalog.' || TG_ARGV[0] || '.deleted', TG_ARGV[0] || '/' || stale.id, row_to_json(stale)
      FROM old_rows AS stale;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION capture_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, before, after)
    SELECT 'catalog.' || TG_ARGV[0]
               || CASE WHEN stale.id IS NULL THEN '.created' WHEN fresh.id IS NULL THEN '.deleted' ELSE '.updated' END,
           TG_ARGV[0] || '/' || coalesce(fresh.id, stale.id),
           CASE WHEN stale.id IS NOT NULL THEN row_to_json(stale) END,
           CASE WHEN fresh.id IS NOT NULL THEN row_to_json(fresh) END
      FROM old_rows AS stale
      FULL JOIN new_rows AS fresh ON fresh.id = stale.id
     WHERE fresh.id IS NULL OR stale.id IS NULL OR fresh *<> stale;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION capture_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject) VALUES ('catalog.' || TG_ARGV[0] || '.truncated', TG_ARGV[0]);
    RETURN NULL;
END $$;
"""

TRIGGERS = """
DO $$
DECLARE
    noun text;
    catalog_table text;
BEGIN
    FOR noun, catalog_table IN VALUES ('city', 'cities'), ('company', 'companies'), ('product', 'products') LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER capture_inserted AFTER INSERT ON %%I
            REFERENCING NEW TABLE AS new_rows
            FOR EACH STATEMENT EXECUTE FUNCTION capture_inserted(%%L)', catalog_table, noun);
        EXECUTE format('CREATE OR REPLACE TRIGGER capture_updated AFTER UPDATE ON %%I
            REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
            FOR EACH STATEMENT EXECUTE FUNCTION capture_updated(%%L)', catalog_table, noun);
        EXECUTE format('CREATE OR REPLACE TRIGGER capture_deleted AFTER DELETE ON %%I
            REFERENCING OLD TABLE AS old_rows
            FOR EACH STATEMENT EXECUTE FUNCTION capture_deleted(%%L)', catalog_table, noun);
        IF noun <> 'city' THEN  -- cities can only be truncated together with companies
            EXECUTE format('CREATE OR REPLACE TRIGGER capture_truncated AFTER TRUNCATE ON %%I
                FOR EACH STATEMENT EXECUTE FUNCTION capture_truncated(%%L)', catalog_table, noun);
        END IF;
    END LOOP;
END $$;
"""


def upgrade() -> None:
    for sql in (OUTBOX, CAPTURE, TRIGGERS):
        op.get_bind().exec_driver_sql(sql)


def downgrade() -> None:
    for table in ("cities", "companies", "products"):
        for what in ("inserted", "updated", "deleted", "truncated"):
            op.execute(f"DROP TRIGGER IF EXISTS capture_{what} ON {table}")
    for what in ("inserted", "updated", "deleted", "truncated"):
        op.execute(f"DROP FUNCTION capture_{what}()")
    op.execute("DROP TABLE event_outbox")
