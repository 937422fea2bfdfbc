"""Indexes for what counts and deletes history, so that neither reads all of it."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("CREATE INDEX task_runs_unsuccessful_idx ON task_runs (task, queued_at DESC) WHERE state <> 'SUCCESS'")
    op.execute("CREATE INDEX dead_letters_closed_at_idx ON dead_letters (closed_at) WHERE closed_at IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP INDEX dead_letters_closed_at_idx, task_runs_unsuccessful_idx")
