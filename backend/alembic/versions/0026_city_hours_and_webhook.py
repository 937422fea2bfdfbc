"""Counts of cities over a week, a row for each hour in which they changed; which incidents the webhook has told of."""

from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE count_looks (at timestamptz PRIMARY KEY DEFAULT clock_timestamp());
        CREATE TABLE city_hours (
            city_id         bigint NOT NULL,
            at              timestamptz NOT NULL,
            products_count  bigint,
            services_count  bigint,
            companies_count bigint,
            PRIMARY KEY (city_id, at)
        );
        CREATE INDEX city_hours_at_idx ON city_hours (at);
        ALTER TABLE incidents ADD COLUMN begin_told_at timestamptz, ADD COLUMN end_told_at timestamptz;
    """)


def downgrade() -> None:
    op.execute("DROP TABLE city_hours, count_looks")
    op.execute("ALTER TABLE incidents DROP COLUMN begin_told_at, DROP COLUMN end_told_at")
