"""What patches look at while somebody judges many keys; who may write the caches may write these."""

from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    op.execute("""
        CREATE UNLOGGED TABLE judgements (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            noun text NOT NULL,
            ends_at timestamptz NOT NULL
        )""")
    op.execute("""
        CREATE UNLOGGED TABLE looks (
            judgement uuid NOT NULL,
            id bigint NOT NULL
        )""")
    op.execute("""
        DO $$
        DECLARE
            role text;
        BEGIN
            FOR role IN SELECT DISTINCT grantee::regrole::text FROM pg_class, aclexplode(relacl)
                         WHERE pg_class.oid = 'suspects'::regclass AND grantee <> 0
                           AND privilege_type = 'DELETE' AND grantee <> relowner LOOP
                EXECUTE 'GRANT SELECT, INSERT, DELETE ON judgements, looks TO ' || role;
            END LOOP;
        END $$""")


def downgrade() -> None:
    op.execute("DROP TABLE looks, judgements")
