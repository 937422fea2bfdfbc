-- A marketplace of others, in which one city has nearly everything.

-- name: tables
CREATE SCHEMA market;
CREATE TABLE market.cities (id bigint PRIMARY KEY, name text NOT NULL, is_active boolean NOT NULL DEFAULT true);
CREATE TABLE market.companies (id bigint PRIMARY KEY, name text NOT NULL, city_id bigint REFERENCES market.cities);
CREATE TABLE market.products (
    id         bigint PRIMARY KEY,
    name       text NOT NULL,
    company_id bigint NOT NULL REFERENCES market.companies,
    kind       text NOT NULL,
    is_active  boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON market.companies (city_id);
CREATE INDEX ON market.products (company_id)

-- name: rows
-- Those of the large city come after all others.
INSERT INTO market.cities (id, name) SELECT id, 'City ' || id FROM generate_series(1, %(large)s) AS id;
INSERT INTO market.companies (id, name, city_id)
SELECT id, 'Company ' || id, CASE WHEN id <= %(companies)s THEN 1 + id %% %(cities)s ELSE %(large)s END
  FROM generate_series(1, %(companies)s + %(large_companies)s) AS id;
INSERT INTO market.products (id, name, company_id, kind, is_active)
SELECT id, 'Product ' || id,
       CASE WHEN id <= %(products)s THEN 1 + id %% %(companies)s ELSE 1 + %(companies)s + id %% %(large_companies)s END,
       CASE WHEN id %% 5 = 0 THEN 'service' ELSE 'product' END, true
  FROM generate_series(1, %(products)s + %(large_products)s) AS id

-- name: analyze
ANALYZE market.cities, market.companies, market.products

-- name: change
UPDATE market.cities SET is_active = %(is_active)s WHERE id = %(city)s

-- name: cached
SELECT coalesce((SELECT products_count + services_count FROM city_counts WHERE city_id = %(city)s), 0)
