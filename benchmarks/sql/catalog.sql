-- A catalog for measuring: skewed companies and cities, caches filled straight from the truth. Triggers are off
-- while it is filled, since nobody is to be told.

-- name: quiet
SET session_replication_role = replica; SET statement_timeout = 0; SET synchronous_commit = off; SELECT setseed(0.5)

-- name: cities
INSERT INTO cities (id, name) SELECT id, 'City ' || id FROM generate_series(1, %(cities)s) AS id

-- name: companies
-- An eighth of the companies are in the first five hundredth of the cities.
INSERT INTO companies (id, external_id, name, city_id)
SELECT id, 'company-' || id, 'Company ' || id, 1 + floor(%(cities)s * power(random(), 3))
  FROM generate_series(1, %(companies)s) AS id

-- name: products
INSERT INTO products (id, external_id, company_id, name, kind, is_active)
SELECT id, 'product-' || id, 1 + floor(%(companies)s * power(random(), 2)), 'Product ' || id,
       CASE WHEN id %% 5 = 0 THEN 'service' ELSE 'product' END, id %% 10 <> 0
  FROM generate_series(1, %(products)s) AS id

-- name: cached_products
INSERT INTO product_city_mapping (product_id, city_id, company_id, kind)
SELECT product_id, city_id, company_id, kind FROM product_city_truth ORDER BY product_id

-- name: cached_companies
INSERT INTO company_city_mapping (company_id, city_id)
SELECT company_id, city_id FROM company_city_truth ORDER BY company_id

-- name: sequences
SELECT setval(pg_get_serial_sequence(name, 'id'), 1000000000) FROM unnest(ARRAY['cities', 'companies', 'products']) AS name

-- name: numbers
-- Which product is changed next, see `change`.
CREATE SEQUENCE bench_changes

-- name: change
-- Changes `rows` products in one transaction, none of them again before all others have been; each change shows in the
-- mapping: half go to another company, a quarter come or go, a quarter turn from product into service or back.
WITH picked AS MATERIALIZED (
    SELECT 1 + nextval('bench_changes') * 7919 %% %(products)s AS id,
           1 + floor(%(companies)s * power(random(), 2))::bigint AS company_id, random() AS what
      FROM generate_series(1, %(rows)s)
)
UPDATE products
   SET company_id = CASE WHEN what < 0.5 THEN picked.company_id ELSE products.company_id END,
       is_active = CASE WHEN what BETWEEN 0.5 AND 0.75 THEN NOT is_active ELSE is_active END,
       kind = CASE WHEN what > 0.75 THEN CASE kind WHEN 'service' THEN 'product' ELSE 'service' END ELSE kind END,
       updated_at = now()
  FROM picked
 WHERE products.id = picked.id
