"""What the observer writes down: the pipeline's history, the auditor's counts and findings."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE observations (
            at               timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
            seconds          double precision NOT NULL,
            captured         bigint NOT NULL,
            published        bigint NOT NULL,
            applied          bigint NOT NULL,
            patched          bigint NOT NULL,
            outbox_rows      bigint,
            outbox_seconds   double precision,
            queue_ready      bigint,
            queue_held       bigint,
            latency          bigint[] NOT NULL,
            canary_ms        double precision
        );
        CREATE TABLE audit_minutes (
            minute  timestamptz NOT NULL,
            cache   text NOT NULL,
            checked bigint NOT NULL DEFAULT 0,
            wrong   bigint NOT NULL DEFAULT 0,
            PRIMARY KEY (minute, cache)
        );
        CREATE TABLE audit_findings (
            id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            found_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
            cache       text NOT NULL,
            key         text NOT NULL,
            side        text NOT NULL,
            cached      jsonb,
            wanted      jsonb,
            last_patch  bigint,
            repaired_at timestamptz
        );
        CREATE INDEX audit_findings_found_at_idx ON audit_findings (found_at);
    """)


def downgrade() -> None:
    op.execute("DROP TABLE audit_findings, audit_minutes, observations")
