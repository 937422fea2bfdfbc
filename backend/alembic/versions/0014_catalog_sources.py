"""Everything reads the catalog through its definition: functions that read the tables, and views over them."""

from alembic import op

revision = "0014"
down_revision = "0013"

SOURCES = """
CREATE OR REPLACE FUNCTION {schema}.city_rows() RETURNS TABLE (id bigint, external_id text, name text, latitude double precision, longitude double precision, version xid) LANGUAGE sql STABLE AS $body$
SELECT id, external_id, name, latitude, longitude, xmin
  FROM {tables}.cities
$body$;
CREATE OR REPLACE FUNCTION {schema}.company_rows() RETURNS TABLE (id bigint, external_id text, name text, city_id bigint, is_active boolean, created_at timestamp with time zone, updated_at timestamp with time zone, version xid) LANGUAGE sql STABLE AS $body$
SELECT id, external_id, name, city_id, is_active, created_at, updated_at, xmin
  FROM {tables}.companies
$body$;
CREATE OR REPLACE FUNCTION {schema}.product_rows() RETURNS TABLE (id bigint, external_id text, company_id bigint, name text, kind text, is_active boolean, created_at timestamp with time zone, updated_at timestamp with time zone, version xid) LANGUAGE sql STABLE AS $body$
SELECT id, external_id, company_id, name, kind, is_active, created_at, updated_at, xmin
  FROM {tables}.products
$body$;
CREATE OR REPLACE FUNCTION {schema}.catalog_tables() RETURNS TABLE (role text, table_name text) LANGUAGE sql STABLE AS $body$
VALUES ('city', '{tables}.cities'), ('company', '{tables}.companies'), ('product', '{tables}.products')
$body$;
CREATE OR REPLACE FUNCTION {schema}.watches() RETURNS TABLE (number integer, table_name text, noun text) LANGUAGE sql STABLE AS $body$
SELECT NULL::integer, NULL::text, NULL::text WHERE false
$body$;
CREATE OR REPLACE VIEW {schema}.catalog_cities AS SELECT * FROM {schema}.city_rows();
CREATE OR REPLACE VIEW {schema}.catalog_companies AS SELECT * FROM {schema}.company_rows();
CREATE OR REPLACE VIEW {schema}.catalog_products AS SELECT * FROM {schema}.product_rows();
CREATE OR REPLACE VIEW company_city_truth AS
SELECT company.id AS company_id, company.city_id
  FROM catalog_companies AS company
  JOIN catalog_cities AS city ON city.id = company.city_id
 WHERE company.is_active;
CREATE OR REPLACE VIEW product_city_truth AS
SELECT product.id AS product_id, company.city_id, product.company_id, product.kind
  FROM catalog_products AS product
  JOIN company_city_truth AS company USING (company_id)
 WHERE product.is_active AND product.kind IN ('product', 'service');
"""  # noqa: E501


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.get_bind().exec_driver_sql(SOURCES.format(schema=schema, tables=schema).replace("%", "%%"))


def downgrade() -> None:
    op.execute("""
        CREATE OR REPLACE VIEW company_city_truth AS
        SELECT id AS company_id, city_id FROM companies WHERE is_active AND city_id IS NOT NULL;
        CREATE OR REPLACE VIEW product_city_truth AS
        SELECT products.id AS product_id, company.city_id, products.company_id, products.kind
          FROM products JOIN company_city_truth AS company USING (company_id) WHERE products.is_active;
        DROP VIEW catalog_products, catalog_companies, catalog_cities;
        DROP FUNCTION city_rows(), company_rows(), product_rows(), catalog_tables(), watches();
    """)
