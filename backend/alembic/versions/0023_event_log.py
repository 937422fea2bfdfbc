"""The log of events where the broker has no stream, a partition a day, and which log it is that has them."""

from alembic import op

revision = "0023"
down_revision = "0022"

TABLES = """
CREATE TABLE event_log (
    position     bigint NOT NULL,  -- without gaps, in the order of their delivery: one relay leads
    published_at timestamptz NOT NULL,
    event_id     uuid NOT NULL,
    type         text NOT NULL,
    subject      text NOT NULL,
    occurred_at  timestamptz NOT NULL,
    before       json,
    after        json,
    traceparent  text,
    slim         text,
    PRIMARY KEY (position, published_at)
) PARTITION BY RANGE (published_at);
CREATE TABLE event_log_default PARTITION OF event_log DEFAULT;

CREATE TABLE event_log_source (
    singleton      boolean PRIMARY KEY DEFAULT true CONSTRAINT event_log_source_singleton_check CHECK (singleton),
    source         text CONSTRAINT event_log_source_source_check CHECK (source IN ('stream', 'table')),
    since          timestamptz,
    reason         text,
    first_position bigint NOT NULL DEFAULT 0
);
INSERT INTO event_log_source DEFAULT VALUES;
COMMENT ON TABLE event_log_source IS 'the log that the relay fills; since: it has every event from then on, null: all';
COMMENT ON COLUMN event_log_source.first_position IS 'of the table: what was below has been dropped';
"""
# Both run with their owner's rights: a relay or worker with least rights makes and drops days, and no other tables.
FUNCTIONS = """
CREATE FUNCTION make_event_log_days() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}, pg_temp SET lock_timeout = '500ms' SET "TimeZone" = 'UTC' AS $$
DECLARE
    day date;
    part text;
    lacking integer := 0;
BEGIN
    FOREACH day IN ARRAY ARRAY[current_date, current_date + 1] LOOP
        part := 'event_log_' || to_char(day, 'YYYYMMDD');
        IF to_regclass(part) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE %I PARTITION OF event_log FOR VALUES FROM (%L) TO (%L)',
                               part, day::timestamptz, (day + 1)::timestamptz);
            EXCEPTION WHEN OTHERS THEN  -- whatever it is, the default partition takes the day's rows
                RAISE WARNING 'partition % is not made: %', part, SQLERRM;
                lacking := lacking + 1;
            END;
        END IF;
    END LOOP;
    RETURN lacking;
END $$;

CREATE FUNCTION forget_events(seconds double precision, most integer) RETURNS SETOF bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}, pg_temp SET lock_timeout = '500ms' SET "TimeZone" = 'UTC' AS $$
DECLARE
    horizon timestamptz := date_trunc('day', now() - seconds * interval '1 second');
    part text;
    ended timestamptz;
    beyond bigint;
BEGIN
    FOR part IN SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                 WHERE inhparent = 'event_log'::regclass AND relname ~ '^event_log_[0-9]{{8}}$' ORDER BY relname LOOP
        ended := (to_date(right(part, 8), 'YYYYMMDD') + 1)::timestamptz;
        EXIT WHEN ended > horizon;
        EXECUTE format('SELECT max(position) + 1 FROM %I', part) INTO beyond;
        BEGIN
            EXECUTE format('DROP TABLE %I', part);
        EXCEPTION WHEN lock_not_available THEN
            RETURN;  -- next time, and nothing that is younger before it
        END;
        UPDATE event_log_source SET first_position = greatest(first_position, beyond),
            since = CASE WHEN beyond IS NULL THEN since ELSE greatest(since, ended) END;
        RETURN NEXT 0;
    END LOOP;
    RETURN QUERY WITH gone AS (
        DELETE FROM event_log_default WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM event_log_default WHERE published_at < horizon ORDER BY position LIMIT most))
        RETURNING position
    ), noted AS (
        UPDATE event_log_source
           SET first_position = greatest(first_position, (SELECT max(position) + 1 FROM gone)),
               since = greatest(since, horizon)
         WHERE EXISTS (SELECT FROM gone)
    )
    SELECT position FROM gone;
END $$;
REVOKE ALL ON FUNCTION make_event_log_days(), forget_events(double precision, integer) FROM PUBLIC;
"""


def upgrade() -> None:
    bind = op.get_bind()
    schema = bind.exec_driver_sql("SELECT quote_ident(current_schema())").scalar()
    bind.exec_driver_sql(TABLES)
    bind.exec_driver_sql(FUNCTIONS.format(schema=schema).replace("%", "%%"))


def downgrade() -> None:
    op.execute("""
        DROP FUNCTION make_event_log_days(), forget_events(double precision, integer);
        DROP TABLE event_log, event_log_source;
    """)
