"""One index for products filtered by kind, by activity or by both, where there were two: each costs every writer."""

from alembic import op

revision = "0030"
down_revision = "0029"

OF_THE_CATALOG = """
DO $$
BEGIN
    IF to_regclass(format('%I.products', current_schema())) IS NOT NULL THEN  -- not beside a catalog that was adopted
        CREATE INDEX products_is_active_kind_idx ON products (is_active, kind, id);
        DROP INDEX products_kind_idx, products_is_active_idx;
    END IF;
END $$;
"""
BACK = """
DO $$
BEGIN
    IF to_regclass(format('%I.products', current_schema())) IS NOT NULL THEN
        CREATE INDEX products_kind_idx ON products (kind, id);
        CREATE INDEX products_is_active_idx ON products (is_active, id);
        DROP INDEX products_is_active_kind_idx;
    END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(OF_THE_CATALOG)


def downgrade() -> None:
    op.execute(BACK)
