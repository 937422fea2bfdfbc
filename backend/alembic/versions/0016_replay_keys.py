"""Keys of dry runs of a replay, until the run has ended: none counts twice, and memory does not grow with them."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE replay_keys (
            task_id uuid NOT NULL REFERENCES replays (task_id) ON DELETE CASCADE,
            noun    text NOT NULL,
            id      bigint NOT NULL,
            PRIMARY KEY (task_id, noun, id)
        )""")


def downgrade() -> None:
    op.execute("DROP TABLE replay_keys")
