"""The oracle itself sees every kind of wrong row: an oracle that says yes to everything proves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import oracle
from tests.plain import Plain, snapshot

CATALOG = """
    INSERT INTO cities (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'empty');
    INSERT INTO companies (id, name, city_id) VALUES (10, 'x', 1), (20, 'y', 2);
    INSERT INTO products (id, company_id, name, kind) VALUES
        (100, 10, 'p', 'product'), (101, 10, 'q', 'service'), (200, 20, 'r', 'product');
"""
RIGHT = """
    INSERT INTO product_city_mapping (product_id, city_id, company_id, kind) VALUES
        (100, 1, 10, 'product'), (101, 1, 10, 'service'), (200, 2, 20, 'product');
    INSERT INTO company_city_mapping (company_id, city_id) VALUES (10, 1), (20, 2);
    INSERT INTO city_counts (city_id, products_count, services_count, companies_count) VALUES
        (1, 1, 1, 1), (2, 1, 0, 1), (3, 0, 0, 0);
    UPDATE active_cities_cache SET active_city_ids = '{1,2}', total_cities = 2, total_companies = 2, total_products = 3;
"""
WRONG = {
    "a mapping row is missing": "DELETE FROM product_city_mapping WHERE product_id = 100",
    "a mapping row is left over": "INSERT INTO company_city_mapping VALUES (99, 1)",
    "a product is mapped to another city": "UPDATE product_city_mapping SET city_id = 2 WHERE product_id = 100",
    "a service is mapped as a product": "UPDATE product_city_mapping SET kind = 'product' WHERE product_id = 101",
    "a company is mapped to another city": "UPDATE company_city_mapping SET city_id = 2 WHERE company_id = 10",
    "a count is one too high": "UPDATE city_counts SET services_count = 1 WHERE city_id = 2",
    "a zero row is missing": "DELETE FROM city_counts WHERE city_id = 3",
    "a city that is gone has counts": "INSERT INTO city_counts (city_id) VALUES (9)",
    "an active city is missing": "UPDATE active_cities_cache SET active_city_ids = '{1}' WHERE cache_type = 'products'",
    "active cities do not ascend": "UPDATE active_cities_cache SET active_city_ids = '{2,1}'",
    "a total is wrong": "UPDATE active_cities_cache SET total_products = 4 WHERE cache_type = 'companies'",
    "an active row is missing": "DELETE FROM active_cities_cache WHERE cache_type = 'companies'",
}
CONTRADICTIONS = [
    "a mapping row is missing",
    "a mapping row is left over",
    "a service is mapped as a product",
    "a count is one too high",
    "an active city is missing",
    "active cities do not ascend",
    "a total is wrong",
    "an active row is missing",
]


@pytest.fixture
def plain(database: str) -> Iterator[Plain]:
    with Plain(database) as plain:
        plain.run(CATALOG)
        plain.run(RIGHT)
        yield plain


def test_says_nothing_of_right_caches(database: str, plain: Plain) -> None:
    assert oracle.of(database) == []


def test_names_every_kind_of_wrong_row(plain: Plain) -> None:
    plain.connection.autocommit = False
    for what, tampering in WRONG.items():
        plain.run(tampering)
        assert oracle.violations(plain), what
        plain.rollback()
        assert oracle.violations(plain) == [], what


def test_sees_caches_that_contradict_each_other_without_asking_the_catalog(database: str, plain: Plain) -> None:
    plain.connection.autocommit = False
    for what in CONTRADICTIONS:
        plain.run(WRONG[what])
        assert oracle.snapshot_violations(plain), what
        plain.rollback()
    plain.run("DELETE FROM products")
    assert oracle.snapshot_violations(plain) == []
    plain.rollback()
    with snapshot(database) as reader:
        assert oracle.snapshot_violations(reader) == []
