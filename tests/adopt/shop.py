"""A shop of another shape: its tables and definition, what may be written, and what the caches have to hold of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.adopt.marketplace import Marketplace
from tests.plain import Plain
from tests.servers import ROOT

SHOP: Final = ROOT / "tests" / "data" / "shop"
TABLES: Final = (SHOP / "schema.sql").read_text(encoding="utf-8")  # with their first rows
DEFINITION: Final = (SHOP / "catalog.toml").read_text(encoding="utf-8")
COMPANIES: Final = """
    SELECT id, city FROM (
        SELECT s.id, (SELECT a."stadt Nr" FROM shop.seller_addresses l, shop.addresses a
                       WHERE a.id = l.address_id AND l.seller_id = s.id AND l.is_main ORDER BY a.id LIMIT 1) AS city
          FROM shop.sellers s WHERE s.state = 'live') AS placed
     WHERE city IN (SELECT "Nr" FROM "Orte"."Städte" WHERE offen)"""
PRODUCTS: Final = f"""
    SELECT g.id, c.city, c.id AS company, CASE g.art WHEN 'Ware' THEN 'product' ELSE 'service' END
      FROM shop.goods g JOIN ({COMPANIES}) c ON c.id = g.seller WHERE g.visible AND g.deleted_at IS NULL"""
COUNTS: Final = f"""
    SELECT "Nr", (SELECT count(*) FROM ({PRODUCTS}) p (id, city, company, kind) WHERE city = "Nr" AND kind = 'product'),
           (SELECT count(*) FROM ({PRODUCTS}) p (id, city, company, kind) WHERE city = "Nr" AND kind = 'service'),
           (SELECT count(*) FROM ({COMPANIES}) c WHERE c.city = "Nr")
      FROM "Orte"."Städte" WHERE offen"""
HELD: Final = {
    COMPANIES: 'SELECT company_id, city_id FROM "City Cache".company_city_mapping',
    PRODUCTS: 'SELECT product_id, city_id, company_id, kind FROM "City Cache".product_city_mapping',
    COUNTS: 'SELECT city_id, products_count, services_count, companies_count FROM "City Cache".city_counts',
}
WRITES: Final = [
    "UPDATE shop.addresses SET \"stadt Nr\" = 1 + (id + {n}) % 10 WHERE id % 7 = {n} % 7",
    "UPDATE shop.seller_addresses SET address_id = 1 + (address_id + {n}) % 50 WHERE seller_id % 5 = {n} % 5",
    "UPDATE shop.seller_addresses SET seller_id = 1 + (seller_id + {n}) % 60 WHERE seller_id % 9 = {n} % 9",
    "UPDATE shop.seller_addresses SET is_main = NOT is_main WHERE address_id % 6 = {n} % 6",
    "INSERT INTO shop.seller_addresses VALUES (1 + {n} % 60, 1 + {n} % 50), (1 + {n} % 60, 1 + {n} % 50)",
    """DELETE FROM shop.seller_addresses
        WHERE ctid = (SELECT min(ctid) FROM shop.seller_addresses WHERE seller_id > {n} % 60)""",
    "UPDATE \"Orte\".\"Städte\" SET offen = NOT offen WHERE \"Nr\" % 4 = {n} % 4",
    "UPDATE \"Orte\".\"Städte\" SET \"Nr\" = \"Nr\" + 100 WHERE \"Nr\" = 1 + {n} % 10",
    "UPDATE \"Orte\".\"Städte\" SET \"Nr\" = \"Nr\" - 100 WHERE \"Nr\" > 100",
    "DELETE FROM \"Orte\".\"Städte\" WHERE \"Nr\" = 1 + {n} % 10",
    "INSERT INTO \"Orte\".\"Städte\" SELECT n, 'neu' FROM generate_series(1, 10) n ON CONFLICT DO NOTHING",
    "UPDATE shop.sellers SET state = CASE state WHEN 'live' THEN 'shut' ELSE 'live' END WHERE id % 8 = {n} % 8",
    "UPDATE shop.goods SET visible = NOT visible WHERE id % 13 = {n} % 13",
    "UPDATE shop.goods_0 SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END WHERE id % 10 = {n} % 10",
    "UPDATE shop.goods_1a SET seller = 1 + {n} % 60, secret = 'x' WHERE id % 17 = {n} % 17",
    """UPDATE shop.goods SET part = 1 - part
        WHERE id = {n} AND NOT EXISTS (SELECT FROM shop.goods g WHERE g.id = {n} AND g.part <> goods.part)""",
    """UPDATE shop.goods_1 SET art = CASE art WHEN 'Ware' THEN 'Dienst' ELSE 'Ware' END::shop.art
        WHERE id % 19 = {n} % 19""",
    "DELETE FROM shop.goods WHERE id % 101 = {n} % 101",
    """INSERT INTO shop.goods (id, part, seller, art, visible)
       SELECT 10000 + {n} * 10 + n, n % 2, 1 + n, 'Ware', true FROM generate_series(1, 9) n""",
    "TRUNCATE shop.goods_1b",
]  # fmt: skip


def shop_at(url: str) -> Marketplace:
    """The shop in an empty database."""
    with Plain(url) as plain:
        plain.run(TABLES)
    return Marketplace(url, SHOP / "catalog.toml")


def changed(text: str, changes: Mapping[str, str]) -> str:
    """A definition in which each of these texts, which must be there, stands for another."""
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def violations(plain: Plain) -> list[str]:
    """Where the caches are not what plain SQL says."""
    found = []
    for wanted, held in HELD.items():
        for side, query in (("missing", f"({wanted}) EXCEPT ({held})"), ("extra", f"({held}) EXCEPT ({wanted})")):
            found += [f"{side} {row}: {held}" for row in plain.all(query)[:3]]
    return found
