"""Tables of the canary's own; one that an earlier release left among the cities is removed."""

from alembic import op

revision = "0015"
down_revision = "0014"

UP = """
CREATE TABLE canaries (
    id      smallint PRIMARY KEY,
    number  bigint NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE canary_cache (
    id         smallint PRIMARY KEY,
    number     bigint NOT NULL,
    arrived_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION capture_canary() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO {schema}.event_outbox (type, subject, after)
    VALUES ('citycache.canary.updated', 'canary/' OPERATOR(pg_catalog.||) NEW.id, pg_catalog.row_to_json(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER capture_canary AFTER INSERT OR UPDATE ON canaries FOR EACH ROW EXECUTE FUNCTION capture_canary();
"""
LEFT_BEHIND = """
DELETE FROM cities
 WHERE id = -1 AND name = 'canary' AND external_id IS NULL AND latitude IS NULL AND longitude IS NULL
   AND NOT EXISTS (SELECT FROM companies WHERE city_id = -1);
"""


def upgrade() -> None:
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    connection.exec_driver_sql(UP.format(schema=schema))
    if schema == "public":  # beside an adopted catalog there has never been one among the cities
        connection.exec_driver_sql(LEFT_BEHIND)


def downgrade() -> None:
    op.execute("DROP TABLE canaries, canary_cache")
    op.execute("DROP FUNCTION capture_canary()")
