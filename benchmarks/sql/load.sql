-- name: prepare
-- Numbers for writers that must never write one product twice: see `freshness`.
CREATE SEQUENCE bench_numbers

-- name: ages
-- Milliseconds from the commit of a write to the commit of the patch that made it visible, for writes committed
-- in (since, until]. Both instants are the server's own, taken by track_commit_timestamp.
WITH written AS (
    SELECT id, pg_xact_commit_timestamp(xmin) AS committed
      FROM products
     WHERE id IN (SELECT 1 + (number * 7919) %% %(products)s FROM generate_series(%(first)s, %(last)s) AS number)
)
SELECT extract(epoch FROM pg_xact_commit_timestamp(mapping.xmin) - committed)::float8 * 1000
  FROM written JOIN product_city_mapping AS mapping ON mapping.product_id = written.id
 WHERE committed > %(since)s AND committed <= %(until)s

-- name: written_number
SELECT last_value FROM bench_numbers

-- name: now
SELECT clock_timestamp()

-- name: counters
-- Peer: counters kept by synchronous triggers. Cities are locked in ascending order, so that writers do not deadlock.
CREATE TABLE peer_counts (city_id bigint PRIMARY KEY, products bigint NOT NULL DEFAULT 0, services bigint NOT NULL DEFAULT 0)
    WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
INSERT INTO peer_counts SELECT city_id, products_count, services_count FROM city_counts;
CREATE FUNCTION peer_count() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    step record;
BEGIN
    FOR step IN
        SELECT city_id, sum(goods) AS goods, sum(services) AS services
          FROM (SELECT city_id, one * (kind = 'product')::int AS goods, one * (kind = 'service')::int AS services
                  FROM (VALUES (old.company_id, old.kind, -old.is_active::int),
                               (new.company_id, new.kind, new.is_active::int)) AS side (company_id, kind, one)
                  JOIN companies ON companies.id = side.company_id AND companies.is_active
                 WHERE city_id IS NOT NULL) AS sides
         GROUP BY city_id
        HAVING sum(goods) <> 0 OR sum(services) <> 0
         ORDER BY city_id
    LOOP
        UPDATE peer_counts SET products = products + step.goods, services = peer_counts.services + step.services
         WHERE peer_counts.city_id = step.city_id;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER peer_count AFTER UPDATE ON products FOR EACH ROW EXECUTE FUNCTION peer_count();
ALTER TABLE products DISABLE TRIGGER peer_count

-- name: hot
-- Products of the city that has most.
CREATE TABLE bench_hot (number bigint PRIMARY KEY, product_id bigint NOT NULL);
INSERT INTO bench_hot
SELECT row_number() OVER (), product_id
  FROM (SELECT product_id FROM product_city_mapping
         WHERE city_id = (SELECT city_id FROM city_counts ORDER BY products_count DESC LIMIT 1) LIMIT %(rows)s) AS hot
