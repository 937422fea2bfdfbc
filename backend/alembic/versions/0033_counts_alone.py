"""Notes tell a change of counts from one of cities and levels: what was made of these serves beside patches."""

from alembic import op

revision = "0033"
down_revision = "0032"

FUNCTION = """
CREATE OR REPLACE FUNCTION note_city_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.<>) 'TRUNCATE' THEN
        IF NOT EXISTS (SELECT FROM changed_rows) THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO {schema}.city_changes ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$
"""
WITH_COUNTS = {
    "columns": "xid, of_counts",
    "values": "pg_catalog.pg_current_xact_id(), TG_RELNAME OPERATOR(pg_catalog.<>) 'cities'",
}
WITHOUT = {"columns": "xid", "values": "pg_catalog.pg_current_xact_id()"}


def upgrade() -> None:
    op.execute("""
        ALTER TABLE city_changes ADD COLUMN of_counts boolean NOT NULL DEFAULT false,
                                 DROP CONSTRAINT city_changes_pkey,
                                 ADD CONSTRAINT city_changes_pkey PRIMARY KEY (xid, of_counts)""")
    op.execute("CREATE INDEX city_changes_of_places_idx ON city_changes (xid) WHERE NOT of_counts")
    _replace(WITH_COUNTS)


def downgrade() -> None:
    _replace(WITHOUT)
    op.execute("""
        DELETE FROM city_changes USING city_changes AS other
         WHERE city_changes.of_counts AND NOT other.of_counts AND other.xid = city_changes.xid""")
    op.execute("""
        ALTER TABLE city_changes DROP COLUMN of_counts, ADD CONSTRAINT city_changes_pkey PRIMARY KEY (xid)""")


def _replace(noted: dict[str, str]) -> None:
    bind = op.get_bind()
    schema = bind.exec_driver_sql("SELECT quote_ident(current_schema())").scalar()
    bind.exec_driver_sql(FUNCTION.format(schema=schema, **noted))
