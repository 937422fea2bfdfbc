"""No key is written down as a suspect any more: patches tell what they look at. No release has read these rows."""

from importlib import import_module

from alembic import op

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    op.execute("DROP TABLE suspects")


def downgrade() -> None:
    import_module("backend.alembic.versions.0029_suspects").upgrade()
