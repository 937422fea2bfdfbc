"""Catalogs to test on, written by plain SQL."""

from __future__ import annotations

from typing import Final

from tests.plain import Plain

DEFINITION: Final = """
schema = "citycache"
[city]
table = "public.cities"
id = "id"
name = "name"
[company]
table = "public.companies"
id = "id"
name = "name"
city = "city_id"
[product]
table = "public.products"
id = "id"
name = "name"
company = "company_id"
"""  # as short as a definition can be


def small(plain: Plain) -> None:
    """Two cities and an empty one; company 10 in city 1 with two goods and a service, company 20 in city 2 with one."""
    plain.run("INSERT INTO cities (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'empty')")
    plain.run("INSERT INTO companies (id, name, city_id) VALUES (10, 'x', 1), (20, 'y', 2), (30, 'online', NULL)")
    plain.run("""
        INSERT INTO products (id, company_id, name, kind) VALUES
            (100, 10, 'p', 'product'), (101, 10, 'q', 'product'), (102, 10, 'r', 'service'),
            (200, 20, 's', 'product'), (300, 30, 't', 'product')""")


def many(plain: Plain, cities: int, companies: int, products: int) -> None:
    """Ids from 1; companies spread evenly over cities and products over companies, every fifth a service."""
    plain.run("INSERT INTO cities (id, name) SELECT n, 'c' || n FROM generate_series(1, %s) AS n", (cities,))
    plain.run(
        "INSERT INTO companies (id, name, city_id) SELECT n, 'c' || n, 1 + n %% %s FROM generate_series(1, %s) AS n",
        (cities, companies),
    )
    plain.run(
        """INSERT INTO products (id, company_id, name, kind)
           SELECT n, 1 + n %% %s, 'p' || n, CASE n %% 5 WHEN 0 THEN 'service' ELSE 'product' END
             FROM generate_series(1, %s) AS n""",
        (companies, products),
    )
    for table, column in (("cities", "id"), ("companies", "id"), ("products", "id")):
        plain.run(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), greatest(1, max(id))) FROM {table}")


def no_events(plain: Plain) -> None:
    """Forget what was captured so far."""
    plain.run("DELETE FROM event_outbox")
