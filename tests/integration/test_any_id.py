"""Every bigint is an id like any other, in every part of the way: there is no number that means something else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backend.app import db, settings
from backend.app.caches import diff, rebuilds
from backend.app.caches.apply import WideHooks, drain_wide
from backend.app.caches.keys import Cause
from backend.app.observing import auditor
from backend.app.observing.auditor import Auditor
from backend.app.worker.batch import Batch, apply_batch
from events import contract
from events.contract import Hint
from tests import oracle
from tests.integration.api import V1, Client
from tests.outbox import waiting
from tests.plain import Plain

LEAST, MOST = -(2**63), 2**63 - 1
EDGES: Final = (LEAST, LEAST + 1, -(2**53) - 1, -2, -1, 0, 1, 2**31, 2**53 + 1, MOST - 1, MOST)
CAUSE: Final = Cause("test")
ids = st.lists(
    st.one_of(st.sampled_from(EDGES), st.integers(LEAST, MOST)), min_size=1, max_size=6, unique=True
)  # fmt: skip


@pytest.fixture
def world(configured_database: None, plain: Plain, monkeypatch: pytest.MonkeyPatch) -> Plain:
    """Companies of more than two products are wide, and windows of two rows."""
    monkeypatch.setenv("WIDE_PATCH_KEYS", "2")
    settings.settings.cache_clear()
    monkeypatch.setattr(rebuilds, "WINDOW_ROWS", 2)
    monkeypatch.setattr(auditor, "WINDOW_IDS", 2)
    monkeypatch.setitem(diff.SQL, "estimate", "SELECT 1000000")
    return plain


def deliver(plain: Plain) -> None:
    """The outbox's events, as the relay and the updater take them."""
    rows = waiting(plain)
    plain.run("DELETE FROM event_outbox")
    hints: list[Hint] = [contract.hint(contract.event(*row[1:8])) for row in rows]
    if hints:
        apply_batch(Batch(hints), str(uuid4()))
    everything = [lambda: rebuilds.rebuild("products", CAUSE), lambda: rebuilds.rebuild("companies", CAUSE)]
    drain_wide("test", str(uuid4()), WideHooks(lambda: [work() for work in everything], print))


def write(plain: Plain, cities: Sequence[int], companies: Sequence[int], products: Sequence[int]) -> None:
    plain.run("INSERT INTO cities (id, name) SELECT id, 'c' FROM unnest(%s::bigint[]) AS id", (list(cities),))
    for number, company in enumerate(companies):
        plain.run("INSERT INTO companies VALUES (%s, NULL, 'c', %s)", (company, cities[number % len(cities)]))
    for number, product in enumerate(products):
        owner = companies[number * number % len(companies)]
        plain.run("INSERT INTO products (id, company_id, name) VALUES (%s, %s, 'p')", (product, owner))


def right(plain: Plain) -> list[str]:
    return oracle.violations(plain) + oracle.snapshot_violations(plain)


def differing() -> dict[str, list[Any]]:
    with db.snapshot() as connection:
        return {found.table: found.keys for found in diff.compare_all(connection)}


def audited(plain: Plain) -> Auditor:
    """An auditor that has walked through all windows."""
    own = Auditor(lambda instant: True)
    for sweep in own._sweeps:
        sweep.ids = 2
        own._sweep(sweep)
        while sweep.after is not None:
            own._sweep(sweep)
    return own


@hypothesis_settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip
@given(cities=ids, companies=ids, products=st.lists(st.sampled_from(EDGES), min_size=4, unique=True))
def test_any_id_goes_the_whole_way(world: Plain, cities: list[int], companies: list[int], products: list[int]) -> None:
    world.run("DELETE FROM products; DELETE FROM companies; DELETE FROM cities; DELETE FROM event_outbox")
    rebuilds.rebuild("products", CAUSE)
    rebuilds.rebuild("companies", CAUSE)
    write(world, cities, companies, products)
    deliver(world)
    assert right(world) == []
    assert set(map(tuple, differing().values())) == {()}

    world.run("UPDATE companies SET city_id = %s", (cities[-1],))
    deliver(world)
    assert right(world) == []

    world.run("DELETE FROM product_city_mapping; DELETE FROM company_city_mapping")
    found = differing()
    assert found["product_city_mapping"] == sorted(products)
    assert found["company_city_mapping"] == sorted(companies)
    suspects = audited(world).suspects
    assert {key for cache, key in suspects if cache == "products"} == set(products)
    assert {key for cache, key in suspects if cache == "companies"} == set(companies)
    assert rebuilds.rebuild("products", CAUSE).missing == len(products)
    assert rebuilds.rebuild("companies", CAUSE).missing == len(companies)
    assert right(world) == []

    world.run("DELETE FROM companies WHERE id = %s", (companies[0],))
    world.run("DELETE FROM cities WHERE id = %s", (cities[0],))
    deliver(world)
    assert right(world) == []


def test_a_wide_patch_looks_at_the_product_of_the_least_id(world: Plain) -> None:
    write(world, [1], [0], [LEAST, LEAST + 1, -1, 0, 1, MOST])
    deliver(world)
    world.run("INSERT INTO cities (id, name) VALUES (2, 'b'); UPDATE companies SET city_id = 2")
    deliver(world)

    assert right(world) == []
    assert world.one("SELECT count(*) FROM product_city_mapping WHERE city_id = 2") == 6


def test_the_company_0_asks_for_its_own_products_only(world: Plain) -> None:
    write(world, [1], [0], [1, 2, 3])
    deliver(world)
    world.run("UPDATE companies SET is_active = false; DELETE FROM event_outbox")
    apply_batch(Batch([Hint("company", 0, str(uuid4()), datetime.now(UTC).isoformat(), None)]), str(uuid4()))

    assert world.all("SELECT company_id FROM wide_patches") == [(0,)]
    done = drain_wide("test", str(uuid4()), WideHooks(pytest.fail, print))
    assert (done["companies"], done["keys"], done["reconciled"]) == (1, 3, 0)


def test_everything_is_patched_beside_the_company_0(world: Plain) -> None:
    write(world, [1], [0], [1, 2, 3])
    deliver(world)
    world.run("UPDATE companies SET is_active = false; DELETE FROM event_outbox")
    now = datetime.now(UTC).isoformat()
    hints = [Hint("company", 0, str(uuid4()), now, None), Hint("product", None, str(uuid4()), now, None)]
    assert apply_batch(Batch(hints), str(uuid4()))["everything"] is True

    rebuilt: list[bool] = []
    done = drain_wide("test", str(uuid4()), WideHooks(lambda: rebuilt.append(True), print))
    assert (done["companies"], done["reconciled"], rebuilt) == (1, 1, [True])


def test_the_release_before_may_ask_for_everything_by_its_company_0(world: Plain) -> None:
    before = """INSERT INTO wide_patches (company_id, event_id) VALUES (0, NULL), (5, 'e') ON CONFLICT (company_id)
                DO UPDATE SET generation = wide_patches.generation + 1, after_product_id = excluded.after_product_id,
                              requested_at = now(), event_id = excluded.event_id"""
    world.run("INSERT INTO wide_patches (company_id, of_company) VALUES (0, true)")
    world.run(before)
    world.run(before)

    assert world.all("SELECT company_id, generation FROM wide_patches ORDER BY 1") == [(0, 1), (5, 2)]
    assert world.one("SELECT generation FROM wide_patch_of_everything") == 2


def test_the_lists_of_the_api_page_through_all_ids(api: Client, plain: Plain) -> None:
    write(plain, [LEAST, 0, 5, MOST], [LEAST, 0, MOST], EDGES)
    deliver(plain)

    assert [row["id"] for row in api.pages("/products", limit=2)] == sorted(EDGES)
    assert [row["id"] for row in api.pages("/companies", limit=1)] == [LEAST, 0, MOST]
    for city in (LEAST, 0):
        listed = [row["product_id"] for row in api.pages(f"/cities/{city}/products", limit=1)]
        assert listed == plain.column(
            "SELECT product_id FROM product_city_mapping WHERE city_id = %s ORDER BY 1", (city,)
        )
    for product in EDGES:
        assert api.read(f"/caches/explain/product/{product}")["agrees"]
        assert api.delete(f"{V1}/products/{product}").status_code == 204
