"""The outbox and the triggers that capture every change of the catalog."""

from alembic import op

from events.outbox import SQL_FOLDER

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("outbox.sql", "capture.sql"):
        op.get_bind().exec_driver_sql((SQL_FOLDER / name).read_text(encoding="utf-8").replace("%", "%%"))


def downgrade() -> None:
    for table in ("cities", "companies", "products"):
        for what in ("inserted", "updated", "deleted", "truncated"):
            op.execute(f"DROP TRIGGER IF EXISTS capture_{what} ON {table}")
    for what in ("inserted", "updated", "deleted", "truncated"):
        op.execute(f"DROP FUNCTION capture_{what}()")
    op.execute("DROP TABLE event_outbox")
