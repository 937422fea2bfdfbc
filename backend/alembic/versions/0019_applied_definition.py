"""Which definition a schema was adopted with."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE applied_definition (
            singleton  boolean PRIMARY KEY DEFAULT true CONSTRAINT applied_definition_singleton_check CHECK (singleton),
            definition text NOT NULL,
            digest     text NOT NULL,
            began_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
            applied_at timestamptz
        );
    """)


def downgrade() -> None:
    op.execute("DROP TABLE applied_definition")
