"""Capture with the owner's rights, so that writers of the catalog need none on the outbox."""

from alembic import op

from events.outbox import CAPTURE_FUNCTIONS, capture_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(capture_sql())


def downgrade() -> None:
    for function in CAPTURE_FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function}() SECURITY INVOKER RESET search_path")
