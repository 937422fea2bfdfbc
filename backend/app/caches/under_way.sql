-- Is a difference still on its way? While a judgement lasts, patches tell which keys they look at, see under_way.py.

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

-- name: products_waiting
-- Those of the keys that a wide patch of their company waits for.
SELECT id FROM catalog_products WHERE id = ANY(%(ids)s::bigint[]) AND company_id IN (SELECT company_id FROM wide_patches)
UNION ALL
SELECT product_id FROM product_city_mapping
 WHERE product_id = ANY(%(ids)s::bigint[]) AND company_id IN (SELECT company_id FROM wide_patches)
