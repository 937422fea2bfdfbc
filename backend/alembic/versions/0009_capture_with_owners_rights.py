"""Capture with the owner's rights, so that writers of the catalog need none on the outbox."""

from alembic import op

from events.outbox import SQL_FOLDER

revision = "0009"
down_revision = "0008"
FUNCTIONS = ("capture_inserted", "capture_updated", "capture_deleted", "capture_truncated")


def upgrade() -> None:
    op.get_bind().exec_driver_sql((SQL_FOLDER / "capture.sql").read_text(encoding="utf-8").replace("%", "%%"))


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function}() SECURITY INVOKER RESET search_path")
