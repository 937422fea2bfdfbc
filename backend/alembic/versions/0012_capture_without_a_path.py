"""Capture names every schema itself, so its functions need no search path of their own, which cost each write."""

from alembic import op

from events.outbox import SQL_FOLDER

revision = "0012"
down_revision = "0011"
FUNCTIONS = ("capture_inserted", "capture_updated", "capture_deleted", "capture_truncated")


def upgrade() -> None:
    op.get_bind().exec_driver_sql((SQL_FOLDER / "capture.sql").read_text(encoding="utf-8").replace("%", "%%"))


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function}() SET search_path = pg_catalog, pg_temp")
