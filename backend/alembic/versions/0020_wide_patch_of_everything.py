"""The wide patch of everything has a table of its own: 0 is an id of a company like any other."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE wide_patch_of_everything (
            singleton    boolean PRIMARY KEY DEFAULT true
                         CONSTRAINT wide_patch_of_everything_singleton_check CHECK (singleton),
            generation   bigint NOT NULL DEFAULT 1,
            requested_at timestamptz NOT NULL DEFAULT now()
        );
        ALTER TABLE wide_patches ADD COLUMN of_company boolean NOT NULL DEFAULT false;
        INSERT INTO wide_patch_of_everything SELECT FROM wide_patches WHERE company_id = 0;
        DELETE FROM wide_patches WHERE company_id = 0;
        CREATE VIEW wide_requests AS
            SELECT company_id, requested_at FROM wide_patches
            UNION ALL SELECT NULL, requested_at FROM wide_patch_of_everything;
        CREATE FUNCTION request_everything() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.wide_patch_of_everything AS request DEFAULT VALUES
            ON CONFLICT (singleton) DO UPDATE SET generation = request.generation + 1, requested_at = pg_catalog.now();
            RETURN NULL;
        END $$;
        COMMENT ON FUNCTION request_everything() IS 'of the release before, whose company 0 means everything';
        CREATE TRIGGER request_everything BEFORE INSERT ON wide_patches FOR EACH ROW
            WHEN (NEW.company_id = 0 AND NOT NEW.of_company) EXECUTE FUNCTION request_everything();
    """)


def downgrade() -> None:
    op.execute("""
        DROP TRIGGER request_everything ON wide_patches;
        DROP FUNCTION request_everything();
        DROP VIEW wide_requests;
        DELETE FROM wide_patches WHERE company_id = 0;
        INSERT INTO wide_patches (company_id) SELECT 0 FROM wide_patch_of_everything;
        ALTER TABLE wide_patches DROP COLUMN of_company;
        DROP TABLE wide_patch_of_everything;
    """)
