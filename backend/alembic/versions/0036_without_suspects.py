"""No key is written down as a suspect any more: patches tell what they look at. No release has read these rows."""

from alembic import op

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    op.execute("DROP TABLE suspects")


def downgrade() -> None:
    op.execute("""
        CREATE UNLOGGED TABLE suspects (
            noun text NOT NULL,
            id bigint NOT NULL,
            patch_id bigint NOT NULL,
            written_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT suspects_pkey PRIMARY KEY (noun, id)
        )""")
    op.execute("""
        DO $$
        DECLARE
            role text;
        BEGIN
            FOR role IN SELECT DISTINCT grantee::regrole::text FROM pg_class, aclexplode(relacl)
                         WHERE pg_class.oid = 'judgements'::regclass AND grantee <> 0
                           AND privilege_type = 'DELETE' AND grantee <> relowner LOOP
                EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON suspects TO ' || role;
            END LOOP;
        END $$""")
