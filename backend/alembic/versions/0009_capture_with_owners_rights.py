"""Capture with the owner's rights, so that writers of the catalog need none on the outbox."""

from alembic import op

revision = "0009"
down_revision = "0008"

FUNCTIONS = ("capture_inserted", "capture_updated", "capture_deleted", "capture_truncated")


def upgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function}() SECURITY DEFINER SET search_path = pg_catalog, pg_temp")


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function}() SECURITY INVOKER RESET search_path")
