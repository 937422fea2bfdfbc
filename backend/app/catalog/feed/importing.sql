-- Reading and writing the rows that one transaction of a change feed touches. Writes come in the order of this file.

-- name: load_city
-- Locked, in the order of ids, so that nobody changes a row between its reading and its writing.
SELECT id, external_id, NULL, name, latitude, longitude
  FROM cities WHERE external_id = ANY(%(keys)s::text[]) ORDER BY id FOR NO KEY UPDATE

-- name: load_company
SELECT id, external_id, city_id, name, is_active
  FROM companies WHERE external_id = ANY(%(keys)s::text[]) ORDER BY id FOR NO KEY UPDATE

-- name: load_product
SELECT id, external_id, company_id, name, kind, is_active
  FROM products WHERE external_id = ANY(%(keys)s::text[]) ORDER BY id FOR NO KEY UPDATE

-- name: load_parent_city
-- Only named as a parent: its id is enough, and no lock, so that imports and other writers do not meet here.
SELECT id, external_id, NULL, NULL, NULL, NULL FROM cities WHERE external_id = ANY(%(keys)s::text[])

-- name: load_parent_company
SELECT id, external_id, NULL, NULL, NULL FROM companies WHERE external_id = ANY(%(keys)s::text[])

-- name: delete_product
DELETE FROM products WHERE id = ANY(%(ids)s::bigint[])

-- name: delete_company
DELETE FROM companies WHERE id = ANY(%(ids)s::bigint[])

-- name: delete_city
DELETE FROM cities WHERE id = ANY(%(ids)s::bigint[])

-- name: ids_city
SELECT nextval(pg_get_serial_sequence('cities', 'id')) FROM generate_series(1, %(rows)s)

-- name: ids_company
SELECT nextval(pg_get_serial_sequence('companies', 'id')) FROM generate_series(1, %(rows)s)

-- name: ids_product
SELECT nextval(pg_get_serial_sequence('products', 'id')) FROM generate_series(1, %(rows)s)

-- name: insert_city
COPY cities (id, external_id, name, latitude, longitude) FROM STDIN

-- name: insert_company
COPY companies (id, external_id, city_id, name, is_active) FROM STDIN

-- name: insert_product
COPY products (id, external_id, company_id, name, kind, is_active) FROM STDIN

-- name: update_city
UPDATE cities
   SET name = fresh.name, latitude = fresh.latitude, longitude = fresh.longitude
  FROM unnest(%(ids)s::bigint[], %(name)s::text[], %(latitude)s::float8[], %(longitude)s::float8[])
       AS fresh (id, name, latitude, longitude)
 WHERE cities.id = fresh.id
   AND (cities.name, cities.latitude, cities.longitude) IS DISTINCT FROM (fresh.name, fresh.latitude, fresh.longitude)

-- name: update_company
UPDATE companies
   SET city_id = fresh.city_id, name = fresh.name, is_active = fresh.is_active,
       updated_at = greatest(clock_timestamp(), companies.updated_at + interval '1 microsecond')
  FROM unnest(%(ids)s::bigint[], %(parent)s::bigint[], %(name)s::text[], %(is_active)s::boolean[])
       AS fresh (id, city_id, name, is_active)
 WHERE companies.id = fresh.id
   AND (companies.city_id, companies.name, companies.is_active) IS DISTINCT FROM (fresh.city_id, fresh.name, fresh.is_active)

-- name: update_product
UPDATE products
   SET company_id = fresh.company_id, name = fresh.name, kind = fresh.kind, is_active = fresh.is_active,
       updated_at = greatest(clock_timestamp(), products.updated_at + interval '1 microsecond')
  FROM unnest(%(ids)s::bigint[], %(parent)s::bigint[], %(name)s::text[], %(kind)s::text[], %(is_active)s::boolean[])
       AS fresh (id, company_id, name, kind, is_active)
 WHERE products.id = fresh.id
   AND (products.company_id, products.name, products.kind, products.is_active)
       IS DISTINCT FROM (fresh.company_id, fresh.name, fresh.kind, fresh.is_active)
