"""Incidents: what was wrong, from when to when."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE incidents (
            id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            kind     text NOT NULL,
            subject  text NOT NULL DEFAULT '',
            began_at timestamptz NOT NULL,
            ended_at timestamptz,
            values   jsonb NOT NULL DEFAULT '{}'
        );
        CREATE UNIQUE INDEX incidents_open_idx ON incidents (kind, subject) WHERE ended_at IS NULL;
        CREATE INDEX incidents_began_at_idx ON incidents (began_at);
    """)


def downgrade() -> None:
    op.execute("DROP TABLE incidents")
