-- Why a cache holds what it holds: the source row, the patch that wrote or removed the cached row, events on the way.

-- name: product_source
SELECT to_jsonb(product) || jsonb_build_object('company', jsonb_build_object(
           'id', company.id, 'name', company.name, 'is_active', company.is_active, 'city_id', company.city_id))
  FROM products AS product
  LEFT JOIN companies AS company ON company.id = product.company_id
 WHERE product.id = %(id)s

-- name: company_source
SELECT to_jsonb(company) FROM companies AS company WHERE company.id = %(id)s

-- name: city_source
SELECT to_jsonb(city) FROM cities AS city WHERE city.id = %(id)s

-- name: product_patch
-- The event is the product's own, or that of the company that took it along.
WITH mapped AS (
    SELECT patch_id, company_id FROM product_city_mapping WHERE product_id = %(id)s
), last_patch AS (
    SELECT patch_id FROM mapped
    UNION ALL
    SELECT patch_id FROM removed_keys WHERE noun = 'product' AND id = %(id)s AND NOT EXISTS (SELECT FROM mapped)
)
SELECT task, task_id::text, patched_at, traceparents,
       coalesce(event_ids[array_position(subjects, 'product/' || %(id)s)],
                event_ids[array_position(subjects, 'company/' || coalesce(
                    (SELECT company_id FROM mapped), (SELECT company_id FROM products WHERE id = %(id)s)))])
  FROM last_patch JOIN patches ON patches.id = last_patch.patch_id

-- name: company_patch
WITH mapped AS (
    SELECT patch_id FROM company_city_mapping WHERE company_id = %(id)s
), last_patch AS (
    SELECT patch_id FROM mapped
    UNION ALL
    SELECT patch_id FROM removed_keys WHERE noun = 'company' AND id = %(id)s AND NOT EXISTS (SELECT FROM mapped)
)
SELECT task, task_id::text, patched_at, traceparents, event_ids[array_position(subjects, 'company/' || %(id)s)]
  FROM last_patch JOIN patches ON patches.id = last_patch.patch_id

-- name: was_removed
SELECT EXISTS (SELECT FROM removed_keys WHERE noun = %(noun)s AND id = %(id)s)

-- name: pending
-- Events in the outbox of the row itself and of the company that it is or was with.
SELECT count(*)
  FROM event_outbox
 WHERE subject = ANY(%(subjects)s::text[])
