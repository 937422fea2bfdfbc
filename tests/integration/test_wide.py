"""Wide patches: a company too large for a batch, and what a TRUNCATE asks for, are worked off apart and to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest

from backend.app import settings
from backend.app.caches import rebuilds
from backend.app.caches.apply import WideHooks, drain_wide
from backend.app.caches.keys import Cause
from backend.app.worker.batch import Batch, apply_batch
from events.contract import Hint
from tests import catalogs, oracle
from tests.plain import Plain

LARGE = 1  # the company with most products
MOST = 10  # products of a batch
PRODUCTS = 95
NOW = "2026-11-24T00:00:00Z"
CAUSE = Cause("test")


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def plain(database: str, configured_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plain]:
    """Two cities; company 1 with 95 products in city 1, company 2 with 5 in city 2; right caches."""
    monkeypatch.setenv("WIDE_PATCH_KEYS", str(MOST))
    settings.settings.cache_clear()
    with Plain(database) as plain:
        plain.run("INSERT INTO cities (id, name) VALUES (1, 'a'), (2, 'b')")
        plain.run("INSERT INTO companies (id, name, city_id) VALUES (1, 'large', 1), (2, 'small', 2)")
        plain.run(
            "INSERT INTO products (id, company_id, name) SELECT n, 1 + n / 96, 'p' FROM generate_series(1, 100) AS n"
        )
        for what in ("products", "companies"):
            rebuilds.rebuild(what, CAUSE)  # type: ignore[arg-type]
        catalogs.no_events(plain)
        yield plain


def hears(noun: str, *ids: int | None) -> dict[str, Any]:
    """A batch with one event for each id comes in."""
    return apply_batch(Batch([Hint(noun, row_id, str(uuid4()), NOW, None) for row_id in ids]), str(uuid4()))


def hooks(
    progress: Callable[[dict[str, Any]], None] = lambda state: None, apart: Callable[[Sequence[int]], Any] = print
) -> WideHooks:
    def everything() -> None:
        for what in ("products", "companies"):
            rebuilds.rebuild(what, CAUSE)  # type: ignore[arg-type]

    return WideHooks(everything, apart, progress)


def drain(**options: Any) -> dict[str, int]:
    return drain_wide("apply_wide_patches", str(uuid4()), hooks(**options))


def requests(plain: Plain) -> list[tuple[Any, ...]]:
    return plain.all("SELECT company_id, generation FROM wide_patches ORDER BY 1")


def right(plain: Plain) -> bool:
    return oracle.violations(plain) + oracle.snapshot_violations(plain) == []


def test_a_small_company_takes_its_products_along(plain: Plain) -> None:
    plain.run("UPDATE companies SET city_id = 1 WHERE id = 2")

    hears("company", 2)

    assert requests(plain) == []
    assert right(plain)


def test_a_large_company_moves_at_once_and_asks_for_a_wide_patch_of_its_products(plain: Plain) -> None:
    plain.run("UPDATE companies SET city_id = 2 WHERE id = 1")

    applied = hears("company", LARGE)

    assert applied["wide"] == [LARGE]
    assert requests(plain) == [(LARGE, 1)]
    assert plain.one("SELECT city_id FROM company_city_mapping WHERE company_id = 1") == 2
    assert plain.one("SELECT count(*) FROM product_city_mapping WHERE city_id = 1") == PRODUCTS

    done = drain()

    assert done == {"companies": 1, "keys": PRODUCTS, "patched": PRODUCTS, "reconciled": 0}
    assert requests(plain) == []
    assert right(plain)


def test_snapshots_agree_at_every_chunk(plain: Plain) -> None:
    plain.run("UPDATE companies SET city_id = 2 WHERE id = 1")
    hears("company", LARGE)
    seen: list[list[str]] = []

    drain(progress=lambda state: seen.append(oracle.snapshot_violations(plain)))

    assert seen == [[]] * 10


def test_products_that_only_the_cache_knows_are_patched_too(plain: Plain) -> None:
    plain.run("SET session_replication_role = replica")  # as if their events were lost
    plain.run("DELETE FROM products WHERE company_id = 1")

    assert hears("company", LARGE)["wide"] == [LARGE]
    drain()

    assert right(plain)


def test_goes_on_where_a_killed_one_stood(plain: Plain) -> None:
    plain.run("UPDATE companies SET city_id = 2 WHERE id = 1")
    hears("company", LARGE)

    def die_half_way(state: dict[str, Any]) -> None:
        if state["keys"] == 50:
            raise Killed

    with pytest.raises(Killed):
        drain(progress=die_half_way)
    assert requests(plain)

    assert drain()["keys"] == PRODUCTS - 50
    assert right(plain)


def test_begins_anew_when_the_company_changes_while_it_is_under_way(plain: Plain) -> None:
    """What it has done may be older than the last change."""
    plain.run("UPDATE companies SET city_id = 2 WHERE id = 1")
    hears("company", LARGE)

    def move_back(state: dict[str, Any]) -> None:
        if state["keys"] == 50:
            plain.run("UPDATE companies SET city_id = 1 WHERE id = 1")
            hears("company", LARGE)

    done = drain(progress=move_back)

    assert done["companies"] == 2
    assert done["keys"] >= 50 + PRODUCTS
    assert requests(plain) == []
    assert right(plain)


def test_a_request_that_comes_during_the_last_chunk_is_not_forgotten(plain: Plain) -> None:
    plain.run("UPDATE companies SET city_id = 2 WHERE id = 1")
    hears("company", LARGE)

    def move_back(state: dict[str, Any]) -> None:
        if state["keys"] == PRODUCTS and plain.one("SELECT city_id FROM companies WHERE id = 1") == 2:
            plain.run("UPDATE companies SET city_id = NULL WHERE id = 1")
            hears("company", LARGE)

    drain(progress=move_back)

    assert right(plain)


def test_takes_a_chunk_apart_that_fails(plain: Plain) -> None:
    plain.run("UPDATE companies SET city_id = 2 WHERE id = 1")
    hears("company", LARGE)
    plain.run("ALTER TABLE product_city_mapping ADD CONSTRAINT test CHECK (product_id <> 42 OR city_id = 1)")
    apart: list[list[int]] = []

    done = drain(apart=lambda products: apart.append(list(products)))

    assert len(apart) == 1
    assert 42 in apart[0]
    assert done["keys"] == PRODUCTS
    assert done["patched"] == PRODUCTS - len(apart[0])
    assert requests(plain) == []


def test_a_truncate_asks_for_everything(plain: Plain) -> None:
    plain.run("TRUNCATE companies CASCADE")
    plain.run("INSERT INTO companies (id, name, city_id) VALUES (7, 'after', 2)")

    assert hears("company", None)["everything"] is True
    assert drain()["reconciled"] == 1

    assert right(plain)


def test_requests_are_worked_off_oldest_first(plain: Plain) -> None:
    plain.run("UPDATE companies SET city_id = 2 WHERE id = 1")
    plain.run("UPDATE products SET company_id = 2 WHERE id <= 30")
    hears("product", *range(1, 31))
    hears("company", 2)
    hears("company", LARGE)
    order: list[int] = []

    drain(progress=lambda state: order.append(state["company_id"]))

    assert list(dict.fromkeys(order)) == [2, LARGE]
    assert right(plain)


def test_two_batches_that_ask_for_the_same_companies_do_not_wait_for_ever(plain: Plain) -> None:
    hears("company", LARGE)
    hears("company", LARGE)

    assert requests(plain) == [(LARGE, 2)]
    assert drain()["patched"] == 0
