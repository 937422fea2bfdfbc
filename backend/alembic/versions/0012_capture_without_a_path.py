"""Capture names every schema itself, so its functions need no search path of their own, which cost each write."""

from alembic import op

revision = "0012"
down_revision = "0011"

FUNCTIONS = ("capture_inserted", "capture_updated", "capture_deleted", "capture_truncated")
CAPTURE = """
-- Capture: statement triggers write one outbox row for each changed row, in the writer's own transaction.
-- The argument of each trigger is the noun. Rows are compared by their binary image (*<>), which works for
-- every column type; old and new rows meet by id, and a changed id counts as a deletion and a creation.
-- The functions run with their owner's rights: writers of the catalog need no right on the outbox, and cannot put
-- events into it by themselves. So every function, operator and table is named with its schema, since the search path
-- is the writer's. A fixed path (SET search_path) would cost each write more.

CREATE OR REPLACE FUNCTION capture_inserted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, after)
    SELECT 'catalog.' OPERATOR(pg_catalog.||) TG_ARGV[0] OPERATOR(pg_catalog.||) '.created',
           TG_ARGV[0] OPERATOR(pg_catalog.||) '/' OPERATOR(pg_catalog.||) fresh.id,
           pg_catalog.row_to_json(fresh)
      FROM new_rows AS fresh;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION capture_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, before)
    SELECT 'catalog.' OPERATOR(pg_catalog.||) TG_ARGV[0] OPERATOR(pg_catalog.||) '.deleted',
           TG_ARGV[0] OPERATOR(pg_catalog.||) '/' OPERATOR(pg_catalog.||) stale.id,
           pg_catalog.row_to_json(stale)
      FROM old_rows AS stale;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION capture_updated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, before, after)
    SELECT 'catalog.' OPERATOR(pg_catalog.||) TG_ARGV[0] OPERATOR(pg_catalog.||)
               CASE WHEN stale.id IS NULL THEN '.created' WHEN fresh.id IS NULL THEN '.deleted' ELSE '.updated' END,
           TG_ARGV[0] OPERATOR(pg_catalog.||) '/' OPERATOR(pg_catalog.||) coalesce(fresh.id, stale.id),
           CASE WHEN stale.id IS NOT NULL THEN pg_catalog.row_to_json(stale) END,
           CASE WHEN fresh.id IS NOT NULL THEN pg_catalog.row_to_json(fresh) END
      FROM old_rows AS stale
      FULL JOIN new_rows AS fresh ON fresh.id OPERATOR(pg_catalog.=) stale.id
     WHERE fresh.id IS NULL OR stale.id IS NULL OR fresh OPERATOR(pg_catalog.*<>) stale;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION capture_truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject)
    VALUES ('catalog.' OPERATOR(pg_catalog.||) TG_ARGV[0] OPERATOR(pg_catalog.||) '.truncated', TG_ARGV[0]);
    RETURN NULL;
END $$;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(CAPTURE)


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function}() SET search_path = pg_catalog, pg_temp")
