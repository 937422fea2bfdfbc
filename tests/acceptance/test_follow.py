"""The caches follow every write by themselves, on the documented processes; what was tampered with, rebuilds mend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import oracle
from tests.acceptance import operating
from tests.acceptance.operating import call, citycache, right, run_task
from tests.plain import Plain, psql
from tests.servers import Databases, Vhosts
from tests.system import System
from tests.waiting import until

LARGE = 20_000  # products of a large company
CACHES = ("product_city_mapping", "company_city_mapping", "city_counts", "active_cities_cache")


@pytest.fixture(scope="module")
def running(
    databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Plain]]:
    """Relay, worker and API, started once for all tests here; each test adds to what is there."""
    with operating.running(databases, vhosts, tmp_path_factory.mktemp("follow"), "api", "relay", "worker") as both:
        yield both


@pytest.fixture
def system(running: tuple[System, Plain]) -> System:
    return running[0]


@pytest.fixture
def plain(running: tuple[System, Plain]) -> Plain:
    return running[1]


def test_the_real_feed_is_followed_by_events_alone(system: System, plain: Plain) -> None:
    answer = json.loads(citycache(system, "import", str(operating.FEED), "--json"))
    assert answer["lines"] == 22_399

    right(plain)

    assert operating.counts(plain) == operating.expected_counts()
    assert operating.rebuilds(plain) == 0
    citycache(system, "verify", "--wait", "5")


def test_a_write_by_psql_alone_is_followed(system: System, plain: Plain) -> None:
    psql(
        system.database,
        """
        BEGIN;
        INSERT INTO cities (id, name) VALUES (900001, 'by psql');
        INSERT INTO companies (id, name, city_id) VALUES (900001, 'by psql', 900001);
        INSERT INTO products (company_id, name, kind) SELECT 900001, 'p' || n, 'service' FROM generate_series(1, 30) n;
        COMMIT;
        DELETE FROM products WHERE company_id = 900001 AND name = 'p30';""",
    )

    right(plain, 20)
    city = call(system, "GET", "/cities/900001")
    assert (city["products_count"], city["services_count"], city["companies_count"]) == (0, 29, 1)
    assert operating.rebuilds(plain) == 0


def test_copy_and_a_bulk_update_of_50_000_rows_are_followed(system: System, plain: Plain) -> None:
    plain.run("INSERT INTO cities (id, name) VALUES (900010, 'bulk a'), (900011, 'bulk b')")
    plain.copy("companies (id, name, city_id)", [f"{n}\tcopied\t900010" for n in range(910_000, 910_100)])
    plain.copy(
        "products (id, company_id, name)",
        [f"{n}\t{910_000 + n % 100}\tcopied" for n in range(1_000_000, 1_050_000)],
    )
    right(plain, 60)
    assert plain.one("SELECT products_count FROM city_counts WHERE city_id = 900010") == 50_000

    changed = plain.run(
        "UPDATE products SET kind = 'service', is_active = id % 5 <> 0 WHERE id BETWEEN 1000000 AND 1049999"
    )
    assert changed == 50_000
    right(plain, 60)

    row = plain.all("SELECT products_count, services_count FROM city_counts WHERE city_id = 900010")[0]
    assert row == (0, 40_000)
    assert operating.rebuilds(plain) == 0


def test_a_large_company_moves_and_a_product_beside_it_shows_within_a_second(system: System, plain: Plain) -> None:
    plain.run("INSERT INTO cities (id, name) VALUES (900020, 'from'), (900021, 'to')")
    plain.run("INSERT INTO companies (id, name, city_id) VALUES (920000, 'large', 900020), (920001, 'small', 900020)")
    plain.run(
        "INSERT INTO products (id, company_id, name) SELECT 2000000 + n, 920000, 'p' FROM generate_series(1, %s) AS n",
        (LARGE,),
    )
    plain.run("INSERT INTO products (id, company_id, name) VALUES (3000000, 920001, 'beside')")
    right(plain, 60)

    plain.run("UPDATE companies SET city_id = 900021 WHERE id = 920000")
    latencies = []
    shown = "SELECT count(*) FROM product_city_mapping WHERE product_id = 3000000 AND kind = %s"
    moved = "SELECT count(*) FROM product_city_mapping WHERE company_id = 920000 AND city_id = 900021"
    kinds = ("service", "product")
    until(lambda: plain.one(moved) > 0, 20, "the move begins")
    for turn in range(100):
        kind = kinds[turn % 2]
        plain.run("UPDATE products SET kind = %s WHERE id = 3000000", (kind,))
        latencies.append(until(lambda kind=kind: plain.one(shown, (kind,)), 10))  # type: ignore[misc]
        if plain.one(moved) == LARGE:
            break

    until(lambda: plain.one(moved) == LARGE, 60)
    assert max(latencies) < 1.0
    right(plain, 30)
    assert operating.rebuilds(plain) == 0


def test_a_move_under_way_goes_on_after_its_worker_was_killed(system: System, plain: Plain) -> None:
    moved = "SELECT count(*) FROM product_city_mapping WHERE company_id = 920000 AND city_id = 900020"
    with Plain(system.database, autocommit=False) as locker:
        locker.all(
            "SELECT FROM product_city_mapping WHERE product_id = 2015000 FOR UPDATE"
        )  # it gets so far, no farther
        plain.run("UPDATE companies SET city_id = 900020 WHERE id = 920000")
        until(lambda: plain.one(moved) > 5_000, 20, "the move is under way")
        system.kill("worker")
    assert oracle.snapshot_violations(plain) == []
    assert plain.one(moved) < 15_000
    operating.start(system, "worker-2")

    until(lambda: plain.one(moved) == LARGE, 60, "the move is completed")
    right(plain, 30)
    assert operating.rebuilds(plain) == 0


TAMPERINGS = {  # the scheduled task → what is done to its part, and what verify then says of which table
    "update-product-city-cache": (
        """DELETE FROM product_city_mapping WHERE product_id IN (SELECT min(product_id) FROM product_city_mapping);
           INSERT INTO product_city_mapping VALUES (8000000, 1, 1, 'product');
           UPDATE product_city_mapping SET city_id = -1 WHERE product_id = 3000000""",
        {"product_city_mapping": {"missing": 1, "extra": 1, "different": 1}},
    ),
    "update-company-city-cache": (
        """INSERT INTO company_city_mapping VALUES (8000000, 1), (8000001, 1);
           UPDATE active_cities_cache SET active_city_ids = '{1}' WHERE cache_type = 'companies'""",
        {"company_city_mapping": {"extra": 2}, "active_cities_cache": {"different": 1}},
    ),
    "update-cities-product-count": (
        "UPDATE city_counts SET services_count = services_count + 7 WHERE city_id = 900020",
        {"city_counts": {"different": 1}},
    ),
    "refresh-all-caches": (
        "DELETE FROM active_cities_cache; DELETE FROM city_counts; DELETE FROM company_city_mapping",
        {"active_cities_cache": {"missing": 2}},
    ),
}


@pytest.mark.parametrize("task", TAMPERINGS)
def test_tampered_rows_are_named_by_verify_and_mended_by_their_scheduled_task(
    system: System, plain: Plain, task: str
) -> None:
    tampering, wanted = TAMPERINGS[task]
    right(plain, 30)
    plain.run(tampering)

    report = json.loads(citycache(system, "verify", "--json", code=1))
    found = {table["table"]: table for table in report["tables"]}
    for table, sides in wanted.items():
        assert {side: found[table][side] for side in sides} == sides
        assert found[table]["keys"]

    run = run_task(system, task)

    assert run["state"] == "SUCCESS", run
    assert run["result"]["drift"] > 0
    assert operating.violations(plain) == []
    citycache(system, "verify")


WORKERS = "FROM pg_stat_activity WHERE application_name LIKE 'citycache worker%' AND datname = current_database()"


def written(plain: Plain) -> dict[str, Any]:
    """Rows written so far, by table. A session sends its statistics when it ends; the pool makes a new one."""
    plain.run(f"SELECT pg_terminate_backend(pid) {WORKERS}")
    until(lambda: not plain.one(f"SELECT count(*) {WORKERS}"), what="the workers' sessions end")
    rows = plain.all(
        "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname IN %s", (CACHES,)
    )
    return {row[0]: row[1:] for row in rows}


def test_a_rebuild_of_right_caches_writes_no_row(system: System, plain: Plain) -> None:
    right(plain, 30)
    before = written(plain)

    run = run_task(system, "refresh-all-caches")

    assert (run["state"], run["result"]["patched"], run["result"]["drift"]) == ("SUCCESS", 0, 0)
    assert run["result"]["checked"] > 60_000
    assert written(plain) == before


def test_clearing_empties_and_the_next_refresh_fills(system: System, plain: Plain) -> None:
    cleared = run_task(system, "clear-all-caches")
    assert cleared["state"] == "SUCCESS"
    assert plain.one("SELECT count(*) FROM product_city_mapping") == 0

    refreshed = run_task(system, "refresh-all-caches", 120)

    assert refreshed["state"] == "SUCCESS"
    assert refreshed["result"]["patched"] > 60_000
    assert operating.violations(plain) == []


def test_a_truncate_is_followed_without_being_asked(system: System, plain: Plain) -> None:
    before = operating.rebuilds(plain)

    plain.run("TRUNCATE products")
    right(plain, 30)
    plain.run(
        "INSERT INTO products (company_id, name) SELECT min(id), 'after' FROM companies WHERE city_id IS NOT NULL"
    )
    plain.run("TRUNCATE cities CASCADE")
    right(plain, 30)

    assert plain.one("SELECT count(*) FROM city_counts") == 0
    assert operating.rebuilds(plain) == before
