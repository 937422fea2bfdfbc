"""Dead letters: what could not be applied, and why."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE dead_letters (
            id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            kind             text NOT NULL CONSTRAINT dead_letters_kind_check
                             CHECK (kind IN ('unreadable', 'unknown_type', 'failed', 'undeliverable')),
            reason           text NOT NULL,
            subject          text,
            event_id         text,
            event_type       text,
            content_type     text,
            headers          jsonb,
            payload          text,
            payload_encoding text NOT NULL DEFAULT 'utf-8',
            attempts         integer NOT NULL DEFAULT 1,
            task_id          uuid,
            buried_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
            requeued_at      timestamptz,
            closed_at        timestamptz,
            closed_because   text,
            closed_by        uuid
        );
        CREATE INDEX dead_letters_open_subject_idx ON dead_letters (subject)
            WHERE closed_at IS NULL AND subject IS NOT NULL;
        CREATE INDEX dead_letters_open_idx ON dead_letters (id) WHERE closed_at IS NULL;
    """)


def downgrade() -> None:
    op.execute("DROP TABLE dead_letters")
