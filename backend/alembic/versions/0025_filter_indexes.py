"""Indexes for lists that are filtered: products by kind and by activity, a city's products by kind, runs by state."""

from alembic import op

revision = "0025"
down_revision = "0024"

OF_THE_CATALOG = """
DO $$
BEGIN
    IF to_regclass(format('%I.products', current_schema())) IS NOT NULL THEN  -- not beside a catalog that was adopted
        CREATE INDEX products_kind_idx ON products (kind, id);
        CREATE INDEX products_is_active_idx ON products (is_active, id);
    END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(OF_THE_CATALOG)
    op.execute("""
        DROP INDEX product_city_mapping_city_id_idx;
        CREATE INDEX product_city_mapping_city_id_idx ON product_city_mapping (city_id, kind, product_id);
        DROP INDEX task_runs_queued_at_idx;
        CREATE INDEX task_runs_queued_at_idx ON task_runs (queued_at DESC, task_id DESC);
        CREATE INDEX task_runs_state_idx ON task_runs (state, queued_at DESC, task_id DESC) WHERE state <> 'SUCCESS';
    """)


def downgrade() -> None:
    op.execute("""
        DROP INDEX task_runs_state_idx, task_runs_queued_at_idx, product_city_mapping_city_id_idx;
        CREATE INDEX task_runs_queued_at_idx ON task_runs (queued_at DESC, task_id);
        CREATE INDEX product_city_mapping_city_id_idx ON product_city_mapping (city_id, product_id);
        DROP INDEX IF EXISTS products_is_active_idx, products_kind_idx;
    """)
