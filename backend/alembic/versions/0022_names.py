"""Names are found by how they begin."""

from alembic import op

revision = "0022"
down_revision = "0021"
TABLES = ("cities", "companies", "products")


def upgrade() -> None:
    for table in TABLES:
        op.execute(f"CREATE INDEX {table}_name_idx ON {table} (lower(name) text_pattern_ops)")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP INDEX {table}_name_idx")
