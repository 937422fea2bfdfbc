"""Where each replay is, so that one that was killed goes on there."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE replays (
            task_id      uuid PRIMARY KEY,
            marker       text NOT NULL,
            next_offset  bigint,
            first_offset bigint,
            last_offset  bigint,
            events       bigint NOT NULL DEFAULT 0,
            keys         bigint NOT NULL DEFAULT 0,
            rows_changed bigint NOT NULL DEFAULT 0,
            products     bigint[] NOT NULL DEFAULT '{}',
            companies    bigint[] NOT NULL DEFAULT '{}',
            cities       bigint[] NOT NULL DEFAULT '{}',
            truncated    boolean NOT NULL DEFAULT false,
            updated_at   timestamptz NOT NULL DEFAULT now()
        );
    """)


def downgrade() -> None:
    op.execute("DROP TABLE replays")
