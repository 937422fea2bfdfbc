"""Keys that differed, which patches cross out; who may write the caches may write these."""

from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
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
                         WHERE pg_class.oid = 'removed_keys'::regclass AND grantee <> 0
                           AND privilege_type = 'DELETE' AND grantee <> relowner LOOP
                EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON suspects TO ' || role;
            END LOOP;
        END $$""")


def downgrade() -> None:
    op.execute("DROP TABLE suspects")
