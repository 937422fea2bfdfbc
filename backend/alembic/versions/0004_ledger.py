"""The ledger of all task runs."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE task_runs (
            task_id       uuid PRIMARY KEY,
            task          text NOT NULL,
            trigger       text NOT NULL CONSTRAINT task_runs_trigger_check
                          CHECK (trigger IN ('api', 'beat', 'event', 'replay', 'cli')),
            state         text NOT NULL CONSTRAINT task_runs_state_check CHECK (state IN
                          ('PENDING', 'STARTED', 'RETRY', 'SUCCESS', 'FAILURE', 'REVOKED', 'EXPIRED', 'SKIPPED')),
            arguments     jsonb,
            progress      jsonb,
            result        jsonb,
            error         text,
            queued_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
            started_at    timestamptz,
            finished_at   timestamptz,
            expires_at    timestamptz,
            scheduled_for timestamptz
        );
        CREATE INDEX task_runs_queued_at_idx ON task_runs (queued_at DESC, task_id);
        CREATE INDEX task_runs_task_idx ON task_runs (task, queued_at DESC);
        CREATE INDEX task_runs_active_idx ON task_runs (queued_at) WHERE state IN ('PENDING', 'STARTED', 'RETRY');
        CREATE UNIQUE INDEX task_runs_schedule_idx ON task_runs (task, scheduled_for) WHERE scheduled_for IS NOT NULL;
    """)


def downgrade() -> None:
    op.execute("DROP TABLE task_runs")
