"""The truth views, the caches, and what explains them."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
        CREATE OR REPLACE VIEW company_city_truth AS
        SELECT id AS company_id, city_id
          FROM companies
         WHERE is_active AND city_id IS NOT NULL;
        CREATE OR REPLACE VIEW product_city_truth AS
        SELECT products.id AS product_id, company.city_id, products.company_id, products.kind
          FROM products
          JOIN company_city_truth AS company USING (company_id)
         WHERE products.is_active;
    """)
    op.execute("""
        CREATE TABLE product_city_mapping (
            product_id bigint PRIMARY KEY,
            city_id    bigint NOT NULL,
            company_id bigint NOT NULL,
            kind       text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            patch_id   bigint
        );
        CREATE INDEX product_city_mapping_city_id_idx ON product_city_mapping (city_id, product_id);
        CREATE INDEX product_city_mapping_company_id_idx ON product_city_mapping (company_id, product_id);
        CREATE TABLE company_city_mapping (
            company_id bigint PRIMARY KEY,
            city_id    bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            patch_id   bigint
        );
        CREATE INDEX company_city_mapping_city_id_idx ON company_city_mapping (city_id, company_id);
        CREATE TABLE city_counts (
            city_id         bigint PRIMARY KEY,
            products_count  bigint NOT NULL DEFAULT 0,
            services_count  bigint NOT NULL DEFAULT 0,
            companies_count bigint NOT NULL DEFAULT 0,
            updated_at      timestamptz NOT NULL DEFAULT now()
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
        CREATE TABLE active_cities_cache (
            cache_type      text PRIMARY KEY
                            CONSTRAINT active_cities_cache_type_check CHECK (cache_type IN ('products', 'companies')),
            active_city_ids bigint[] NOT NULL DEFAULT '{}',
            total_cities    bigint NOT NULL DEFAULT 0,
            total_companies bigint NOT NULL DEFAULT 0,
            total_products  bigint NOT NULL DEFAULT 0,
            last_updated    timestamptz NOT NULL DEFAULT now()
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
        INSERT INTO active_cities_cache (cache_type) VALUES ('companies'), ('products');
        CREATE TABLE patches (
            id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            patched_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
            task         text NOT NULL,
            task_id      uuid,
            subjects     text[] NOT NULL DEFAULT '{}',
            event_ids    text[] NOT NULL DEFAULT '{}',
            traceparents text[]
        );
        CREATE INDEX patches_patched_at_idx ON patches (patched_at);
        CREATE TABLE removed_keys (
            noun     text NOT NULL,
            id       bigint NOT NULL,
            patch_id bigint NOT NULL,
            PRIMARY KEY (noun, id)
        );
        CREATE TABLE wide_patches (
            company_id       bigint PRIMARY KEY,
            generation       bigint NOT NULL DEFAULT 1,
            after_product_id bigint NOT NULL DEFAULT -9223372036854775808,
            requested_at     timestamptz NOT NULL DEFAULT now(),
            event_id         text
        );
    """)


def downgrade() -> None:
    op.execute("""
        DROP TABLE wide_patches, removed_keys, patches, active_cities_cache, city_counts,
                   company_city_mapping, product_city_mapping;
        DROP VIEW product_city_truth, company_city_truth;
    """)
