-- The same set of tables kept in two other ways: as materialized views, and as tables that are emptied and filled.

-- name: views
CREATE MATERIALIZED VIEW view_products AS SELECT product_id, city_id, company_id, kind FROM product_city_truth;
CREATE UNIQUE INDEX ON view_products (product_id);
CREATE INDEX ON view_products (city_id, product_id);
CREATE INDEX ON view_products (company_id, product_id);
CREATE MATERIALIZED VIEW view_companies AS SELECT company_id, city_id FROM company_city_truth;
CREATE UNIQUE INDEX ON view_companies (company_id);
CREATE INDEX ON view_companies (city_id, company_id);
CREATE MATERIALIZED VIEW view_counts AS
SELECT id AS city_id, coalesce(products, 0) AS products_count, coalesce(services, 0) AS services_count,
       coalesce(companies, 0) AS companies_count
  FROM cities
  LEFT JOIN (SELECT city_id, count(*) FILTER (WHERE kind <> 'service') AS products,
                    count(*) FILTER (WHERE kind = 'service') AS services
               FROM product_city_truth GROUP BY city_id) AS goods ON goods.city_id = cities.id
  LEFT JOIN (SELECT city_id, count(*) AS companies FROM company_city_truth GROUP BY city_id) AS sellers
         ON sellers.city_id = cities.id;
CREATE UNIQUE INDEX ON view_counts (city_id)

-- name: tables
CREATE TABLE table_products (product_id bigint PRIMARY KEY, city_id bigint NOT NULL, company_id bigint NOT NULL, kind text NOT NULL);
CREATE INDEX ON table_products (city_id, product_id);
CREATE INDEX ON table_products (company_id, product_id);
CREATE TABLE table_companies (company_id bigint PRIMARY KEY, city_id bigint NOT NULL);
CREATE INDEX ON table_companies (city_id, company_id);
CREATE TABLE table_counts (city_id bigint PRIMARY KEY, products_count bigint, services_count bigint, companies_count bigint);
INSERT INTO table_products SELECT product_id, city_id, company_id, kind FROM product_city_truth;
INSERT INTO table_companies SELECT company_id, city_id FROM company_city_truth;
INSERT INTO table_counts SELECT city_id, products_count, services_count, companies_count FROM city_counts

-- name: refresh
REFRESH MATERIALIZED VIEW view_products;
REFRESH MATERIALIZED VIEW view_companies;
REFRESH MATERIALIZED VIEW view_counts

-- name: refresh_concurrently
REFRESH MATERIALIZED VIEW CONCURRENTLY view_products;
REFRESH MATERIALIZED VIEW CONCURRENTLY view_companies;
REFRESH MATERIALIZED VIEW CONCURRENTLY view_counts

-- name: delete_and_insert
BEGIN;
DELETE FROM table_products;
DELETE FROM table_companies;
DELETE FROM table_counts;
INSERT INTO table_products SELECT product_id, city_id, company_id, kind FROM product_city_truth;
INSERT INTO table_companies SELECT company_id, city_id FROM company_city_truth;
INSERT INTO table_counts
SELECT city_id, count(*) FILTER (WHERE kind <> 'service'), count(*) FILTER (WHERE kind = 'service'), 0
  FROM table_products GROUP BY city_id;
UPDATE table_counts SET companies_count = companies
  FROM (SELECT city_id, count(*) AS companies FROM table_companies GROUP BY city_id) AS sellers
 WHERE sellers.city_id = table_counts.city_id;
COMMIT

-- name: drift
-- Each hundredth product gets another company, of which no event tells: the same for all three ways.
SET session_replication_role = replica;
UPDATE products SET company_id = 1 + company_id %% (SELECT max(id) FROM companies) WHERE id %% 100 = %(rest)s;
SET session_replication_role = origin

-- name: empty
TRUNCATE table_products, table_companies, table_counts, product_city_mapping, company_city_mapping, city_counts;
UPDATE active_cities_cache SET active_city_ids = '{}', total_cities = 0, total_companies = 0, total_products = 0

-- name: patch_table
-- What a patch of some products would have to wait for in the tables of delete-and-insert.
SELECT product_id FROM table_products WHERE product_id = ANY(%(ids)s) ORDER BY product_id FOR UPDATE

-- name: report
-- Sessions tell what they wrote at their next transaction a second later, or when they end: pooled ones are ended.
SELECT pg_stat_force_next_flush(), count(pg_terminate_backend(pid, 5000))
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle' AND application_name LIKE '%worker child%'

-- name: rows_written
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint
  FROM pg_stat_user_tables
 WHERE relname = ANY(%(tables)s)

-- name: wal
SELECT pg_current_wal_lsn() - '0/0'
