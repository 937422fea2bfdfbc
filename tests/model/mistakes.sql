-- Statements with a mistake in them, each in the place of the product's own of that name.

-- name: read_before_lock
-- In the place of lock_lanes; patch_products reads these tables then.
CREATE TEMP TABLE early_truth ON COMMIT DROP AS SELECT * FROM product_city_truth;
CREATE TEMP TABLE early_mapping ON COMMIT DROP AS SELECT * FROM product_city_mapping;
SELECT current_setting('transaction_isolation'), nextval('patches_id_seq'), count(pg_advisory_xact_lock(%(lock_class)s, lane))
  FROM unnest(%(lanes)s::int[]) AS lane

-- name: fan_out_in_the_trigger
CREATE FUNCTION fan_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_outbox (type, subject)
    SELECT 'catalog.product.updated', 'product/' || product.id
      FROM new_rows JOIN products AS product ON product.company_id = new_rows.id;
    RETURN NULL;
END $$;
CREATE TRIGGER fan_out AFTER UPDATE ON companies REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fan_out()

-- name: no_products_of
SELECT company_id, ARRAY[]::bigint[] FROM unnest(%(companies)s::bigint[]) AS company (company_id)

-- name: counts_by_a_plain_insert
WITH moved AS (
    SELECT * FROM unnest(%(cities)s::bigint[], %(products)s::bigint[], %(services)s::bigint[], %(companies)s::bigint[])
               AS moved (city_id, products, services, companies)
), updated AS (
    UPDATE city_counts
       SET products_count = products_count + products, services_count = services_count + services,
           companies_count = companies_count + companies, patch_ids = %(patch_ids)s::bigint[]
      FROM moved WHERE moved.city_id = city_counts.city_id
    RETURNING city_counts.city_id, products_count, services_count, companies_count
), inserted AS (
    INSERT INTO city_counts (city_id, products_count, services_count, companies_count)
    SELECT * FROM moved WHERE city_id NOT IN (SELECT city_id FROM updated)
    ON CONFLICT DO NOTHING
    RETURNING city_id, products_count, services_count, companies_count
)
SELECT * FROM updated UNION ALL SELECT * FROM inserted

-- name: last_transaction_that_ended
SELECT pg_snapshot_xmax(pg_current_snapshot())::text

-- name: request_keeps_the_place
INSERT INTO wide_patches (company_id, event_id, of_company)
SELECT company_id, event_id, true FROM unnest(%(companies)s::bigint[], %(event_ids)s::text[]) AS request (company_id, event_id)
ON CONFLICT (company_id) DO UPDATE SET generation = wide_patches.generation + 1

-- name: advance_without_generation
UPDATE wide_patches SET after_product_id = %(after)s WHERE company_id = %(company)s

-- name: finish_without_generation
DELETE FROM wide_patches WHERE company_id = %(company)s
