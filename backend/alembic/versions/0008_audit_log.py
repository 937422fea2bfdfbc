"""Who did what through the API, with which result."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE audit_log (
            id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at      timestamptz NOT NULL DEFAULT clock_timestamp(),
            name    text,
            role    text,
            address text,
            method  text NOT NULL,
            path    text NOT NULL,
            status  integer NOT NULL,
            detail  text
        );
        CREATE INDEX audit_log_at_idx ON audit_log (at);
    """)


def downgrade() -> None:
    op.execute("DROP TABLE audit_log")
