"""Transactions that changed cities or their counts: who keeps answers of these need not ask again at each commit."""

from alembic import op

revision = "0031"
down_revision = "0030"

TABLE = """
CREATE UNLOGGED TABLE city_changes (
    xid xid8 NOT NULL,
    all_ended_below xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT city_changes_pkey PRIMARY KEY (xid)
)"""
FUNCTION = """
CREATE FUNCTION note_city_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.<>) 'TRUNCATE' THEN
        IF NOT EXISTS (SELECT FROM changed_rows) THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO {schema}.city_changes (xid) VALUES (pg_catalog.pg_current_xact_id()) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_city_change() FROM PUBLIC
"""
TRIGGERS = """
DO $$
DECLARE
    noted text;
    event text;
    rows text;
BEGIN
    FOREACH noted IN ARRAY ARRAY['cities', 'city_counts', 'active_cities_cache'] LOOP
        CONTINUE WHEN to_regclass(format('%I.%I', current_schema(), noted)) IS NULL;  -- cities, where they were adopted
        FOR event, rows IN VALUES
            ('INSERT', 'REFERENCING NEW TABLE AS changed_rows'), ('UPDATE', 'REFERENCING NEW TABLE AS changed_rows'),
            ('DELETE', 'REFERENCING OLD TABLE AS changed_rows'), ('TRUNCATE', '') LOOP
            EXECUTE format('CREATE TRIGGER %I AFTER %s ON %I %s FOR EACH STATEMENT EXECUTE FUNCTION note_city_change()',
                           'note_city_' || lower(event), event, noted, rows);
            EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', noted, 'note_city_' || lower(event));
        END LOOP;
    END LOOP;
END $$
"""
GRANTS = """
DO $$
DECLARE
    role text;
    may text;
BEGIN
    FOR role, may IN
        SELECT grantee::regrole::text, CASE relname WHEN 'patches' THEN 'DELETE' ELSE 'SELECT' END
          FROM pg_class, aclexplode(relacl)
         WHERE pg_class.oid IN ('city_counts'::regclass, 'patches'::regclass) AND grantee <> 0 AND grantee <> relowner
           AND privilege_type = CASE relname WHEN 'patches' THEN 'DELETE' ELSE 'SELECT' END LOOP
        EXECUTE format('GRANT %s ON city_changes TO %s', may, role);
    END LOOP;
END $$
"""


def upgrade() -> None:
    bind = op.get_bind()
    schema = bind.exec_driver_sql("SELECT quote_ident(current_schema())").scalar()
    for statement in (TABLE, FUNCTION.format(schema=schema), TRIGGERS.replace("%", "%%"), GRANTS.replace("%", "%%")):
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION note_city_change() CASCADE; DROP TABLE city_changes")
