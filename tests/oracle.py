"""What the caches must hold, said a second time in plain SQL over cities, companies and products.

Independent of the code under test: neither the truth views nor the patch nor the diff are used here.
"""

from __future__ import annotations

from typing import Final

from tests.plain import Plain, snapshot

SHOWN: Final = 5  # rows of one violation

COMPANIES: Final = """
    SELECT c.id AS company_id, c.city_id FROM companies c WHERE c.is_active AND c.city_id IS NOT NULL"""
PRODUCTS: Final = """
    SELECT p.id AS product_id, c.city_id, p.company_id, p.kind
      FROM products p, companies c
     WHERE c.id = p.company_id AND p.is_active AND c.is_active AND c.city_id IS NOT NULL"""
COUNTS: Final = f"""
    SELECT id AS city_id, coalesce(p, 0), coalesce(s, 0), coalesce(c, 0)
      FROM cities
      LEFT JOIN (SELECT city_id, sum((kind = 'product')::int) AS p, sum((kind = 'service')::int) AS s
                   FROM ({PRODUCTS}) g GROUP BY 1) goods ON goods.city_id = id
      LEFT JOIN (SELECT city_id, count(*) AS c FROM ({COMPANIES}) s GROUP BY 1) sellers ON sellers.city_id = id"""
TOTALS: Final = f"(SELECT count(*) FROM ({COMPANIES}) s), (SELECT count(*) FROM ({PRODUCTS}) g)"
ACTIVE: Final = f"""
    SELECT kind, ids, cardinality(ids)::bigint, {TOTALS}
      FROM (VALUES ('products', ARRAY(SELECT DISTINCT city_id FROM ({PRODUCTS}) g ORDER BY 1)),
                   ('companies', ARRAY(SELECT DISTINCT city_id FROM ({COMPANIES}) s ORDER BY 1)))
           AS wanted (kind, ids)"""

CACHES: Final = {  # table → (what it holds, what it must hold)
    "product_city_mapping": ("SELECT product_id, city_id, company_id, kind FROM product_city_mapping", PRODUCTS),
    "company_city_mapping": ("SELECT company_id, city_id FROM company_city_mapping", COMPANIES),
    "city_counts": ("SELECT city_id, products_count, services_count, companies_count FROM city_counts", COUNTS),
    "active_cities_cache": (
        "SELECT cache_type, active_city_ids, total_cities, total_companies, total_products FROM active_cities_cache",
        ACTIVE,
    ),
}

GROUPED: Final = """
    SELECT city_id, sum(p)::bigint, sum(s)::bigint, sum(c)::bigint
      FROM (SELECT city_id, (kind = 'product')::int, (kind = 'service')::int, 0 FROM product_city_mapping
            UNION ALL SELECT city_id, 0, 0, 1 FROM company_city_mapping) AS row (city_id, p, s, c)
     GROUP BY city_id"""
COUNTED: Final = """
    SELECT city_id, products_count, services_count, companies_count FROM city_counts
     WHERE products_count <> 0 OR services_count <> 0 OR companies_count <> 0"""
COUNTED_ACTIVE: Final = """
    SELECT 'products', ARRAY(SELECT city_id FROM city_counts WHERE products_count + services_count > 0 ORDER BY 1)
    UNION ALL
    SELECT 'companies', ARRAY(SELECT city_id FROM city_counts WHERE companies_count > 0 ORDER BY 1)"""
SUMS: Final = """
    SELECT cache_type, cardinality(active_city_ids)::bigint, (SELECT count(*) FROM company_city_mapping),
           (SELECT count(*) FROM product_city_mapping)
      FROM active_cities_cache"""

AGREEMENTS: Final = {  # within one snapshot, whatever the catalog says
    "counts against the mappings": (COUNTED, GROUPED),
    "active cities against the counts": (
        "SELECT cache_type, active_city_ids FROM active_cities_cache",
        COUNTED_ACTIVE,
    ),
    "totals against the mappings": (
        "SELECT cache_type, total_cities, total_companies, total_products FROM active_cities_cache",
        SUMS,
    ),
}


def violations(reader: Plain) -> list[str]:
    """Every row of the four caches that is not what the catalog says, as text; consistent only in a snapshot."""
    return [text for table, pair in CACHES.items() for text in _differences(reader, table, *pair)]


def snapshot_violations(reader: Plain) -> list[str]:
    """Where the caches of this one snapshot contradict each other, as text."""
    return [text for what, pair in AGREEMENTS.items() for text in _differences(reader, what, *pair)]


def of(url: str) -> list[str]:
    """All violations, in a snapshot of its own."""
    with snapshot(url) as reader:
        return violations(reader) + snapshot_violations(reader)


def _differences(reader: Plain, what: str, held: str, wanted: str) -> list[str]:
    missing = reader.all(f"({wanted}) EXCEPT ALL ({held}) ORDER BY 1")
    extra = reader.all(f"({held}) EXCEPT ALL ({wanted}) ORDER BY 1")
    sides = (("missing", missing), ("not wanted", extra))
    return [f"{what}: {len(rows)} {side}: {rows[:SHOWN]}" for side, rows in sides if rows]
