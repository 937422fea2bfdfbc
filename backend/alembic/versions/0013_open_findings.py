"""Findings that are not mended yet, one a row; how many rows a round of the auditor compared."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute("ALTER TABLE audit_minutes ADD COLUMN round_rows bigint")
    op.execute("CREATE INDEX audit_findings_open_idx ON audit_findings (cache, key) WHERE repaired_at IS NULL")


def downgrade() -> None:
    op.execute("DROP INDEX audit_findings_open_idx")
    op.execute("ALTER TABLE audit_minutes DROP COLUMN round_rows")
