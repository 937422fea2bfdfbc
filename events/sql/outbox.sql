-- The outbox: events that are committed and not yet confirmed by the broker.
-- Rows live for milliseconds, so vacuum must come often and never pause.
CREATE TABLE event_outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    event_id    uuid NOT NULL DEFAULT gen_random_uuid(),
    type        text NOT NULL,
    subject     text NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    before      json,
    after       json,
    traceparent text DEFAULT nullif(current_setting('citycache.traceparent', true), '')
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000
);
