"""The log that is a table says so when rows leave the outbox past it, as by a relay that knows no such log."""

from alembic import op

revision = "0028"
down_revision = "0027"

FUNCTION = """
CREATE FUNCTION note_unlogged() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}, pg_temp AS $$
BEGIN
    UPDATE event_log_source SET since = clock_timestamp() WHERE source = 'table';
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_unlogged() FROM PUBLIC;
CREATE TRIGGER note_unlogged AFTER DELETE OR TRUNCATE ON event_outbox FOR EACH STATEMENT
    WHEN (current_setting('citycache.moves', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION note_unlogged()
"""


def upgrade() -> None:
    bind = op.get_bind()
    schema = bind.exec_driver_sql("SELECT quote_ident(current_schema())").scalar()
    bind.exec_driver_sql(FUNCTION.format(schema=schema))


def downgrade() -> None:
    op.execute("DROP TRIGGER note_unlogged ON event_outbox; DROP FUNCTION note_unlogged()")
