"""Capture names every schema itself, so its functions need no search path of their own, which cost each write."""

from alembic import op

from events.outbox import CAPTURE_FUNCTIONS, capture_sql

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(capture_sql())


def downgrade() -> None:
    for function in CAPTURE_FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function}() SET search_path = pg_catalog, pg_temp")
