"""A relay at rest is told by one statement what it asked for by several."""

from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION await_transactions(seen text, looks integer, pause double precision) RETURNS text
        LANGUAGE plpgsql AS $$
        DECLARE
            seen_now text := seen;
        BEGIN
            FOR look IN 1 .. looks LOOP
                PERFORM pg_sleep(pause);
                seen_now := pg_current_snapshot()::text;
                EXIT WHEN seen_now <> seen;
            END LOOP;
            RETURN seen_now;
        END $$""")


def downgrade() -> None:
    op.execute("DROP FUNCTION await_transactions")
