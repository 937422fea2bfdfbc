"""Names are found by their first letters, and may have any length: an entry of an index may not."""

from alembic import op

revision = "0024"
down_revision = "0023"
TABLES = ("cities", "companies", "products")
IF_OURS = """
DO $$
BEGIN
    IF to_regclass(format('%I.{table}', current_schema())) IS NOT NULL THEN  -- not beside a catalog that was adopted
        DROP INDEX {table}_name_idx;
        CREATE INDEX {table}_name_idx ON {table} ({expression} text_pattern_ops);
    END IF;
END $$;
"""


def upgrade() -> None:
    _index("lower(left(name, 100))")


def downgrade() -> None:
    _index("lower(name)")


def _index(expression: str) -> None:
    for table in TABLES:
        op.execute(IF_OURS.format(table=table, expression=expression))
