"""Names are found by how they begin."""

from alembic import op

revision = "0022"
down_revision = "0021"
TABLES = ("cities", "companies", "products")
IF_OURS = """
DO $$
BEGIN
    IF to_regclass(format('%I.{table}', current_schema())) IS NOT NULL THEN  -- not beside a catalog that was adopted
        CREATE INDEX {table}_name_idx ON {table} (lower(name) text_pattern_ops);
    END IF;
END $$;
"""


def upgrade() -> None:
    for table in TABLES:
        op.execute(IF_OURS.format(table=table))


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP INDEX {table}_name_idx")
