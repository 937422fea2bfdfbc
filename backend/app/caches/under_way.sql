-- Is a difference still on its way? A key that differed is written down with the patch that had written its row, 0 where
-- none did; of counts, whose numbers tell nothing of the city's event, 1 where there is a row. Every patch that looks at
-- a key crosses it out.

-- name: suspect
-- One that is written down with another patch is written anew. Nobody who is crossing one of them out is waited for; who
-- looks at the same keys is, in ascending order.
WITH now AS MATERIALIZED (
    SELECT key.id, coalesce(CASE %(noun)s
                                 WHEN 'product' THEN (SELECT patch_id FROM product_city_mapping WHERE product_id = key.id)
                                 WHEN 'company' THEN (SELECT patch_id FROM company_city_mapping WHERE company_id = key.id)
                                 ELSE (SELECT 1 FROM city_counts WHERE city_id = key.id) END, 0) AS patch_id
      FROM unnest(%(ids)s::bigint[]) AS key (id)
), other AS (
    SELECT suspects.id, now.patch_id FROM now JOIN suspects ON noun = %(noun)s AND suspects.id = now.id
     WHERE suspects.patch_id <> now.patch_id FOR UPDATE OF suspects SKIP LOCKED
), written_anew AS (
    UPDATE suspects SET patch_id = other.patch_id FROM other WHERE noun = %(noun)s AND suspects.id = other.id
)
INSERT INTO suspects (noun, id, patch_id)
SELECT %(noun)s, id, patch_id FROM now
 WHERE NOT EXISTS (SELECT FROM suspects WHERE noun = %(noun)s AND suspects.id = now.id)
 ORDER BY id
    ON CONFLICT DO NOTHING

-- name: begin_judgement
INSERT INTO judgements (noun, ends_at) VALUES (%(noun)s, now() + %(seconds)s * interval '1 second') RETURNING id::text

-- name: looked_at
-- What patches have looked at since it began; no row where it is over: then nobody has told it.
SELECT coalesce((SELECT array_agg(looks.id) FROM looks WHERE judgement = judgements.id), '{}')
  FROM judgements WHERE id = %(judgement)s AND ends_at > clock_timestamp()

-- name: end_judgement
-- What patches that are under way will still tell goes with the history, see retention.sql.
WITH over AS (DELETE FROM judgements WHERE id = %(judgement)s RETURNING id)
DELETE FROM looks WHERE judgement IN (SELECT id FROM over)

-- name: instant
SELECT clock_timestamp()

-- name: what_waits
-- Whether wide patches of companies wait; and whether that of everything waits, or of a set of keys, which may be any.
SELECT EXISTS (SELECT FROM wide_patches), EXISTS (SELECT FROM wide_patch_of_everything) OR EXISTS (SELECT FROM wide_watches)

-- name: stood
-- Those of the keys that are written down, and whose row is of the patch that it was of.
SELECT key.id FROM suspects AS key
 WHERE noun = %(noun)s AND key.id = ANY(%(ids)s::bigint[])
   AND key.patch_id = coalesce(CASE %(noun)s
                             WHEN 'product' THEN (SELECT patch_id FROM product_city_mapping WHERE product_id = key.id)
                             WHEN 'company' THEN (SELECT patch_id FROM company_city_mapping WHERE company_id = key.id)
                             ELSE (SELECT 1 FROM city_counts WHERE city_id = key.id) END, 0)

-- name: products_waiting
-- Those of the keys that a wide patch of their company waits for.
SELECT id FROM catalog_products WHERE id = ANY(%(ids)s::bigint[]) AND company_id IN (SELECT company_id FROM wide_patches)
UNION ALL
SELECT product_id FROM product_city_mapping
 WHERE product_id = ANY(%(ids)s::bigint[]) AND company_id IN (SELECT company_id FROM wide_patches)
