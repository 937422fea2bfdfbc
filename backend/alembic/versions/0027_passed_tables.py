"""Tables into which somebody wrote past capture, apart from cached rows that were found wrong."""

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE passed_tables (
            found_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
            table_name text NOT NULL,
            rows       bigint NOT NULL,
            PRIMARY KEY (found_at, table_name)
        );
        WITH told AS (DELETE FROM audit_findings WHERE cache = 'capture' RETURNING found_at, key, wanted)
        INSERT INTO passed_tables SELECT found_at, key, (wanted ->> 'rows')::bigint FROM told;
    """)


def downgrade() -> None:
    op.execute("DROP TABLE passed_tables")
