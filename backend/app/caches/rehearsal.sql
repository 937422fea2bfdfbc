-- A rehearsal writes cached rows of one key that is well, in a transaction that is always rolled back: it shows whether
-- anybody's rows can be written now. Each noun has the same four statements.

-- name: other_product
-- Keys with a cached row, from both ends, none of those that fail.
(SELECT product_id FROM product_city_mapping WHERE product_id <> ALL(%(ids)s::bigint[]) ORDER BY product_id LIMIT 2)
UNION
(SELECT product_id FROM product_city_mapping WHERE product_id <> ALL(%(ids)s::bigint[]) ORDER BY product_id DESC LIMIT 2)

-- name: other_company
(SELECT company_id FROM company_city_mapping WHERE company_id <> ALL(%(ids)s::bigint[]) ORDER BY company_id LIMIT 2)
UNION
(SELECT company_id FROM company_city_mapping WHERE company_id <> ALL(%(ids)s::bigint[]) ORDER BY company_id DESC LIMIT 2)

-- name: other_city
(SELECT city_id FROM city_counts WHERE city_id <> ALL(%(ids)s::bigint[]) ORDER BY city_id LIMIT 2)
UNION
(SELECT city_id FROM city_counts WHERE city_id <> ALL(%(ids)s::bigint[]) ORDER BY city_id DESC LIMIT 2)

-- name: invent_product
-- Where there is no other key: a row that the truth does not know, so the patch removes it.
INSERT INTO product_city_mapping (product_id, city_id, company_id, kind) VALUES (%(id)s, %(id)s, %(id)s, 'product')

-- name: invent_company
INSERT INTO company_city_mapping (company_id, city_id) VALUES (%(id)s, %(id)s)

-- name: invent_city
INSERT INTO city_counts (city_id) VALUES (%(id)s)

-- name: touch_product
UPDATE product_city_mapping SET city_id = city_id, company_id = company_id, kind = kind, patch_id = patch_id
 WHERE product_id = %(id)s

-- name: touch_company
UPDATE company_city_mapping SET city_id = city_id, patch_id = patch_id WHERE company_id = %(id)s

-- name: touch_city
UPDATE city_counts SET products_count = products_count, services_count = services_count, companies_count = companies_count
 WHERE city_id = %(id)s

-- name: remove_product
DELETE FROM product_city_mapping WHERE product_id = %(id)s

-- name: remove_company
DELETE FROM company_city_mapping WHERE company_id = %(id)s

-- name: remove_city
DELETE FROM city_counts WHERE city_id = %(id)s
