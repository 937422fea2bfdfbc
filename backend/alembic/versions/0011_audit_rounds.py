"""How long the auditor takes to come round to every row."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("ALTER TABLE audit_minutes ADD COLUMN round_seconds double precision")


def downgrade() -> None:
    op.execute("ALTER TABLE audit_minutes DROP COLUMN round_seconds")
