"""`citycache verify`: what it calls wrong where writes never cease."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from backend.app import db
from backend.app.caches import rebuilds
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import CACHE_TYPES, patch
from backend.app.commands.verify import verify
from tests import catalogs
from tests.background import background
from tests.plain import Plain

WAIT = 1.5  # seconds: some looks

WRONG = {  # what somebody's hand did → the table that is told
    "UPDATE product_city_mapping SET kind = 'service' WHERE product_id = 101": "product_city_mapping",
    "DELETE FROM company_city_mapping WHERE company_id = 20": "company_city_mapping",
    "UPDATE city_counts SET services_count = services_count + 1 WHERE city_id = 2": "city_counts",
    "DELETE FROM city_counts WHERE city_id = 3": "city_counts",
    "UPDATE active_cities_cache SET active_city_ids = '{1}', total_cities = 1": "active_cities_cache",
    "UPDATE active_cities_cache SET total_products = total_products + 1": "active_cities_cache",
}


@pytest.fixture
def cached(configured_database: None, plain: Plain) -> Plain:
    catalogs.small(plain)
    for what in CACHE_TYPES:
        rebuilds.rebuild(what, Cause("test"))
    return plain


@pytest.fixture
def busy(cached: Plain, database: str) -> Iterator[None]:
    """Always some change whose patch is still to come: of two products by turns, in and out of a city."""

    def work(stop: threading.Event) -> None:
        with Plain(database) as writer:
            _toggle(writer, 100)
            ready.set()
            late, newer = 100, 300
            while not stop.wait(0.01):
                _toggle(writer, newer)
                _patch(late)
                late, newer = newer, late

    ready = threading.Event()
    with background(work):
        assert ready.wait(30)
        yield


def _toggle(writer: Plain, product: int) -> None:
    writer.run("UPDATE products SET company_id = CASE company_id WHEN 20 THEN 10 ELSE 20 END WHERE id = %s", (product,))


def _patch(product: int) -> None:
    with db.transaction() as connection:
        patch(connection, Keys([product]), Cause("test"))


def test_a_busy_system_agrees_although_no_look_finds_all_applied(busy: None) -> None:
    agrees, report = verify(WAIT)

    assert agrees, report
    assert all(table[side] == 0 for table in report for side in ("missing", "extra", "different"))
    assert sum(table["under_way"] for table in report) > 0


@pytest.mark.parametrize("by_hand", WRONG)
def test_what_no_event_would_mend_is_told_beside_what_is_under_way(busy: None, cached: Plain, by_hand: str) -> None:
    cached.run(by_hand)

    agrees, report = verify(WAIT)

    assert not agrees
    assert WRONG[by_hand] in {table["table"] for table in report if table["keys"]}


def test_without_waiting_every_difference_is_told(cached: Plain) -> None:
    _toggle(cached, 100)

    agrees, report = verify(0)

    assert not agrees
    assert {table["table"] for table in report if table["keys"]} >= {"product_city_mapping", "city_counts"}
