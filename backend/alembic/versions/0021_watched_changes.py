"""Rows of watched tables that have changed, and sets of keys that are too large for a batch."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE watched_changes (
            id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            table_name text NOT NULL,
            before     json,
            after      json,
            changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        CREATE TABLE wide_watches (
            change_id    bigint NOT NULL,
            number       integer NOT NULL,
            generation   bigint NOT NULL DEFAULT 1,
            after_id     bigint,
            requested_at timestamptz NOT NULL DEFAULT now(),
            event_id     text,
            PRIMARY KEY (change_id, number)
        );
        CREATE OR REPLACE VIEW wide_requests AS
            SELECT company_id, requested_at FROM wide_patches
            UNION ALL SELECT NULL, requested_at FROM wide_patch_of_everything
            UNION ALL SELECT NULL, requested_at FROM wide_watches;
    """)


def downgrade() -> None:
    op.execute("""
        CREATE OR REPLACE VIEW wide_requests AS
            SELECT company_id, requested_at FROM wide_patches
            UNION ALL SELECT NULL, requested_at FROM wide_patch_of_everything;
        DROP TABLE wide_watches, watched_changes;
    """)
