-- The only statements that write the caches. They run in this order, in one READ COMMITTED transaction,
-- each with a snapshot of its own: lock_lanes, patch_companies, patch_products, counted_cities, record,
-- move_counts, drop_counts, move_active, tell_cities. One order of locks for everybody: lanes, mappings, counts by city, active rows.

-- name: lock_lanes
-- One patch at a time a lane. What follows reads after the lock and sees every write that could have woken it.
-- Recounts have a lane of their own, below all others: two of them, or one beside a clearing, would add a difference twice.
-- Answers the isolation, and the number of the patch that comes now, larger than those before it in its lanes.
SELECT current_setting('transaction_isolation'), nextval('patches_id_seq'), count(pg_advisory_xact_lock(%(lock_class)s, lane))
  FROM unnest(%(lanes)s::int[]) AS lane

-- name: pass_lanes
-- Each of these lanes is taken and let go of at once: of the patches that had it, all have ended.
SELECT count(CASE WHEN pg_advisory_lock(%(lock_class)s, lane) IS NOT NULL THEN pg_advisory_unlock(%(lock_class)s, lane) END)
  FROM generate_series(CAST(%(first)s AS int), CAST(%(last)s AS int)) AS lane

-- name: patch_companies
-- Make the mapping of these companies equal to the truth; answer the changed ids, each with the patch it had before,
-- and the difference for each city. Whoever judges keys is told which ones are looked at hereby, see under_way.py.
WITH wanted AS MATERIALIZED (
    SELECT company_id, city_id FROM company_city_truth WHERE company_id = ANY(%(companies)s::bigint[])
), cached AS MATERIALIZED (
    SELECT company_id, city_id, patch_id FROM company_city_mapping WHERE company_id = ANY(%(companies)s::bigint[])
), changed AS MATERIALIZED (
    SELECT company_id, cached.city_id AS old_city_id, wanted.city_id AS new_city_id, cached.patch_id AS previous_id
      FROM wanted FULL JOIN cached USING (company_id)
     WHERE wanted.city_id IS DISTINCT FROM cached.city_id
), removed AS (
    DELETE FROM company_city_mapping AS mapping USING changed
     WHERE mapping.company_id = changed.company_id AND changed.new_city_id IS NULL
), remembered AS (
    INSERT INTO removed_keys (noun, id, patch_id)
    SELECT 'company', company_id, CAST(%(patch_id)s AS bigint) FROM changed WHERE new_city_id IS NULL
    ON CONFLICT (noun, id) DO UPDATE
       SET patch_id = excluded.patch_id, earlier_ids = (removed_keys.patch_id || removed_keys.earlier_ids)[1:4]
), written AS (
    INSERT INTO company_city_mapping (company_id, city_id, patch_id)
    SELECT company_id, new_city_id, CAST(%(patch_id)s AS bigint) FROM changed WHERE new_city_id IS NOT NULL
    ON CONFLICT (company_id) DO UPDATE SET city_id = excluded.city_id, patch_id = excluded.patch_id
), told AS (
    INSERT INTO looks (judgement, id)
    SELECT judgement.id, key.id FROM judgements AS judgement, unnest(%(companies)s::bigint[]) AS key (id)
     WHERE judgement.noun = 'company' AND judgement.ends_at > now()
), moved AS (
    SELECT city_id, sum(one)::bigint AS companies
      FROM (SELECT new_city_id, 1 FROM changed UNION ALL SELECT old_city_id, -1 FROM changed) AS step (city_id, one)
     WHERE city_id IS NOT NULL
     GROUP BY city_id
    HAVING sum(one) <> 0
)
SELECT ARRAY(SELECT company_id FROM changed),
       ARRAY(SELECT company_id FROM changed WHERE previous_id IS NOT NULL),
       ARRAY(SELECT previous_id FROM changed WHERE previous_id IS NOT NULL),
       coalesce(array_agg(city_id), '{}'), coalesce(array_agg(companies), '{}')
  FROM moved

-- name: patch_products
-- The same for products and services.
WITH wanted AS MATERIALIZED (
    SELECT product_id, city_id, company_id, kind FROM product_city_truth WHERE product_id = ANY(%(products)s::bigint[])
), cached AS MATERIALIZED (
    SELECT product_id, city_id, company_id, kind, patch_id
      FROM product_city_mapping WHERE product_id = ANY(%(products)s::bigint[])
), changed AS MATERIALIZED (
    SELECT product_id, wanted.company_id,
           cached.city_id AS old_city_id, cached.kind AS old_kind, wanted.city_id AS new_city_id, wanted.kind AS new_kind,
           cached.patch_id AS previous_id
      FROM wanted FULL JOIN cached USING (product_id)
     WHERE (wanted.city_id, wanted.company_id, wanted.kind) IS DISTINCT FROM (cached.city_id, cached.company_id, cached.kind)
), removed AS (
    DELETE FROM product_city_mapping AS mapping USING changed
     WHERE mapping.product_id = changed.product_id AND changed.new_city_id IS NULL
), remembered AS (
    INSERT INTO removed_keys (noun, id, patch_id)
    SELECT 'product', product_id, CAST(%(patch_id)s AS bigint) FROM changed WHERE new_city_id IS NULL
    ON CONFLICT (noun, id) DO UPDATE
       SET patch_id = excluded.patch_id, earlier_ids = (removed_keys.patch_id || removed_keys.earlier_ids)[1:4]
), written AS (
    INSERT INTO product_city_mapping (product_id, city_id, company_id, kind, patch_id)
    SELECT product_id, new_city_id, company_id, new_kind, CAST(%(patch_id)s AS bigint) FROM changed WHERE new_city_id IS NOT NULL
    ON CONFLICT (product_id) DO UPDATE
       SET city_id = excluded.city_id, company_id = excluded.company_id, kind = excluded.kind, patch_id = excluded.patch_id
), told AS (
    INSERT INTO looks (judgement, id)
    SELECT judgement.id, key.id FROM judgements AS judgement, unnest(%(products)s::bigint[]) AS key (id)
     WHERE judgement.noun = 'product' AND judgement.ends_at > now()
), moved AS (
    SELECT city_id,
           coalesce(sum(one) FILTER (WHERE kind <> 'service'), 0)::bigint AS products,
           coalesce(sum(one) FILTER (WHERE kind = 'service'), 0)::bigint AS services
      FROM (SELECT new_city_id, new_kind, 1 FROM changed
            UNION ALL SELECT old_city_id, old_kind, -1 FROM changed) AS step (city_id, kind, one)
     WHERE city_id IS NOT NULL
     GROUP BY city_id
)
SELECT ARRAY(SELECT product_id FROM changed),
       ARRAY(SELECT product_id FROM changed WHERE previous_id IS NOT NULL),
       ARRAY(SELECT previous_id FROM changed WHERE previous_id IS NOT NULL),
       coalesce(array_agg(city_id), '{}'), coalesce(array_agg(products), '{}'), coalesce(array_agg(services), '{}')
  FROM moved
 WHERE products <> 0 OR services <> 0

-- name: record
-- Who changed what and why; the mappings' rows point here, and each key on to the patch that it had before.
INSERT INTO patches (id, task, task_id, subjects, event_ids, previous_ids, traceparents)
OVERRIDING SYSTEM VALUE
VALUES (%(patch_id)s, %(task)s, %(task_id)s::uuid, %(subjects)s::text[], %(event_ids)s::text[],
        %(previous_ids)s::bigint[], %(traceparents)s::text[])

-- name: counted_cities
-- Which of these cities to look at among the counts: those of the catalog must have a row, others may have one to drop.
-- A row that is there is asked again by move_counts, which waits for whoever is dropping it.
SELECT city_id
  FROM unnest(%(cities)s::bigint[]) AS city_id
 WHERE EXISTS (SELECT FROM catalog_cities AS city WHERE city.id = city_id.city_id)
    OR EXISTS (SELECT FROM city_counts WHERE city_counts.city_id = city_id.city_id)

-- name: move_counts
-- Differences commute, so patches of one city may come in any order. Rows are locked in ascending city id.
-- A difference of zero makes a row that is missing, and only locks one that is there: that is not answered.
-- Times are read under the row's lock and never go back: a transaction's begin may lie before a change that it waited for.
INSERT INTO city_counts (city_id, products_count, services_count, companies_count, patch_ids, updated_at)
SELECT city_id, products, services, companies, %(patch_ids)s::bigint[], clock_timestamp()
  FROM unnest(%(cities)s::bigint[], %(products)s::bigint[], %(services)s::bigint[], %(companies)s::bigint[])
       AS moved (city_id, products, services, companies)
 ORDER BY city_id
ON CONFLICT (city_id) DO UPDATE
   SET products_count = city_counts.products_count + excluded.products_count,
       services_count = city_counts.services_count + excluded.services_count,
       companies_count = city_counts.companies_count + excluded.companies_count,
       patch_ids = (excluded.patch_ids || city_counts.patch_ids)[1:10],
       updated_at = greatest(clock_timestamp(), city_counts.updated_at + interval '1 microsecond')
 WHERE excluded.products_count <> 0 OR excluded.services_count <> 0 OR excluded.companies_count <> 0
RETURNING city_id, products_count, services_count, companies_count

-- name: drop_counts
-- A city that left the catalog keeps its row until the last mapping has left it.
DELETE FROM city_counts
 WHERE city_id = ANY(%(cities)s::bigint[])
   AND products_count = 0 AND services_count = 0 AND companies_count = 0
   AND NOT EXISTS (SELECT FROM catalog_cities AS city WHERE city.id = city_id)
RETURNING city_id

-- name: tell_cities
-- After the last look at them.
INSERT INTO looks (judgement, id)
SELECT judgement.id, key.id FROM judgements AS judgement, unnest(%(cities)s::bigint[]) AS key (id)
 WHERE judgement.noun = 'city' AND judgement.ends_at > now()

-- name: move_active
-- Cities whose count left or reached zero leave or enter the list; both rows carry both totals.
INSERT INTO active_cities_cache (cache_type, active_city_ids, total_cities, total_companies, total_products)
SELECT cache_type, entered, cardinality(entered), %(companies)s, %(products)s
  FROM (VALUES ('companies', %(companies_entered)s::bigint[]), ('products', %(products_entered)s::bigint[]))
       AS fresh (cache_type, entered)
 ORDER BY cache_type
ON CONFLICT (cache_type) DO UPDATE
   SET (active_city_ids, total_cities) = (
           SELECT coalesce(array_agg(city_id), '{}'), count(*)
             FROM (SELECT unnest(active_cities_cache.active_city_ids)
                   UNION SELECT unnest(excluded.active_city_ids)
                   EXCEPT SELECT unnest(CASE active_cities_cache.cache_type
                                        WHEN 'companies' THEN %(companies_left)s::bigint[]
                                        ELSE %(products_left)s::bigint[] END)
                   ORDER BY 1) AS city (city_id)),
       total_companies = active_cities_cache.total_companies + excluded.total_companies,
       total_products = active_cities_cache.total_products + excluded.total_products,
       last_updated = greatest(clock_timestamp(), active_cities_cache.last_updated + interval '1 microsecond')

-- name: move_totals
-- The same when no city entered or left.
INSERT INTO active_cities_cache (cache_type, total_companies, total_products)
VALUES ('companies', %(companies)s, %(products)s), ('products', %(companies)s, %(products)s)
ON CONFLICT (cache_type) DO UPDATE
   SET total_companies = active_cities_cache.total_companies + excluded.total_companies,
       total_products = active_cities_cache.total_products + excluded.total_products,
       last_updated = greatest(clock_timestamp(), active_cities_cache.last_updated + interval '1 microsecond')

-- name: miscounts
-- What must be added to each city's counts to equal its mappings, of all cities or of these. One statement, so one
-- snapshot; patches move mappings and counts together, so the difference stays right while they go on. Whether a city
-- must have a row does not: that is asked again once the city's lane is taken.
WITH goods AS (
    SELECT city_id, count(*) FILTER (WHERE kind <> 'service') AS products, count(*) FILTER (WHERE kind = 'service') AS services
      FROM product_city_mapping
     WHERE %(cities)s::bigint[] IS NULL OR city_id = ANY(%(cities)s::bigint[])
     GROUP BY city_id
), sellers AS (
    SELECT city_id, count(*) AS companies
      FROM company_city_mapping
     WHERE %(cities)s::bigint[] IS NULL OR city_id = ANY(%(cities)s::bigint[])
     GROUP BY city_id
), right_counts AS (
    SELECT city_id, coalesce(products, 0) AS products, coalesce(services, 0) AS services, coalesce(companies, 0) AS companies
      FROM (SELECT id AS city_id FROM catalog_cities WHERE %(cities)s::bigint[] IS NULL OR id = ANY(%(cities)s::bigint[])) AS city
      FULL JOIN goods USING (city_id)
      FULL JOIN sellers USING (city_id)
), counted AS (
    SELECT * FROM city_counts WHERE %(cities)s::bigint[] IS NULL OR city_id = ANY(%(cities)s::bigint[])
), compared AS (
    SELECT city_id,
           wanted.city_id IS NULL AS extra, counted.city_id IS NULL AS missing,
           coalesce(wanted.products, 0) - coalesce(counted.products_count, 0) AS products,
           coalesce(wanted.services, 0) - coalesce(counted.services_count, 0) AS services,
           coalesce(wanted.companies, 0) - coalesce(counted.companies_count, 0) AS companies
      FROM right_counts AS wanted FULL JOIN counted USING (city_id)
)
SELECT city_id, products, services, companies, extra, missing, (SELECT count(*) FROM right_counts)
  FROM compared
 WHERE extra OR missing OR products <> 0 OR services <> 0 OR companies <> 0

-- name: lock_active
-- A row that is missing is made and answered: only what is locked can be repaired beside patches.
INSERT INTO active_cities_cache (cache_type) VALUES (%(cache_type)s)
ON CONFLICT (cache_type) DO UPDATE SET cache_type = excluded.cache_type WHERE false
RETURNING cache_type

-- name: repair_active
-- After lock_active: the row as the counts say; a row that is right is not written. Answers it if it was wrong.
INSERT INTO active_cities_cache AS active (cache_type, active_city_ids, total_cities, total_companies, total_products)
SELECT %(cache_type)s,
       coalesce(array_agg(city_id ORDER BY city_id) FILTER (WHERE here > 0), '{}'), count(*) FILTER (WHERE here > 0),
       coalesce(sum(companies_count), 0), coalesce(sum(products_count + services_count), 0)
  FROM (SELECT *, CASE %(cache_type)s WHEN 'companies' THEN companies_count ELSE products_count + services_count END AS here
          FROM city_counts) AS counted
ON CONFLICT (cache_type) DO UPDATE
   SET active_city_ids = excluded.active_city_ids, total_cities = excluded.total_cities,
       total_companies = excluded.total_companies, total_products = excluded.total_products,
       last_updated = greatest(clock_timestamp(), active.last_updated + interval '1 microsecond')
 WHERE (active.active_city_ids, active.total_cities, active.total_companies, active.total_products)
       IS DISTINCT FROM
       (excluded.active_city_ids, excluded.total_cities, excluded.total_companies, excluded.total_products)
RETURNING cache_type

-- name: lock_totals
SELECT cache_type FROM active_cities_cache ORDER BY cache_type FOR UPDATE

-- name: repair_totals
-- After lock_totals: both rows carry both totals, so mending a mapping row that had drifted moved those of its
-- neighbour's row away from the counts as well.
UPDATE active_cities_cache AS active
   SET total_companies = counted.companies, total_products = counted.products,
       last_updated = greatest(clock_timestamp(), active.last_updated + interval '1 microsecond')
  FROM (SELECT coalesce(sum(companies_count), 0) AS companies, coalesce(sum(products_count + services_count), 0) AS products
          FROM city_counts) AS counted
 WHERE (active.total_companies, active.total_products) IS DISTINCT FROM (counted.companies, counted.products)

-- name: lock_tables
-- No writer beside a clearing, nor who locks rows, but all readers: one lock a table, in the order in which patches write
-- them, however many lanes there are.
LOCK TABLE company_city_mapping, product_city_mapping, city_counts, active_cities_cache IN EXCLUSIVE MODE

-- name: clear
WITH no_products AS (DELETE FROM product_city_mapping RETURNING 1),
     no_companies AS (DELETE FROM company_city_mapping RETURNING 1),
     no_counts AS (DELETE FROM city_counts RETURNING 1)
SELECT (SELECT count(*) FROM no_products), (SELECT count(*) FROM no_companies), (SELECT count(*) FROM no_counts)

-- name: clear_active
INSERT INTO active_cities_cache (cache_type) VALUES ('companies'), ('products')
ON CONFLICT (cache_type) DO UPDATE
   SET active_city_ids = '{}', total_cities = 0, total_companies = 0, total_products = 0,
       last_updated = greatest(clock_timestamp(), active_cities_cache.last_updated + interval '1 microsecond')

-- name: land_canaries
-- Numbers only grow, so canaries need no lane.
INSERT INTO canary_cache AS cached (id, number)
SELECT id, number FROM canaries WHERE id = ANY(%(ids)s::bigint[])
ON CONFLICT (id) DO UPDATE SET number = excluded.number, arrived_at = clock_timestamp() WHERE cached.number < excluded.number
