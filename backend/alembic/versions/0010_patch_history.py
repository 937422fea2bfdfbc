"""From each patch of a key to the one before, through removals too; of a city, those that moved its counts."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE patches ADD COLUMN previous_ids bigint[] NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE removed_keys ADD COLUMN earlier_ids bigint[] NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE city_counts ADD COLUMN patch_ids bigint[] NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    op.execute("ALTER TABLE city_counts DROP COLUMN patch_ids")
    op.execute("ALTER TABLE removed_keys DROP COLUMN earlier_ids")
    op.execute("ALTER TABLE patches DROP COLUMN previous_ids")
