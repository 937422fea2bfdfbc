"""Since when triggers beside an adopted catalog note what changes answers of cities, and of the levels above."""

from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE applied_definition ADD COLUMN cities_noted_since timestamptz,
                                       ADD COLUMN levels_noted_since timestamptz""")


def downgrade() -> None:
    op.execute("ALTER TABLE applied_definition DROP COLUMN cities_noted_since, DROP COLUMN levels_noted_since")
