"""Rebuilds: they find every wrong row, write no right one, tell drift from delay, and stop nobody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from backend.app import db
from backend.app import settings as own
from backend.app.caches import diff, outlook, rebuilds, under_way
from backend.app.caches.apply import apply
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import patch
from backend.app.caches.under_way import Settle
from backend.app.celery_app import app
from backend.app.ledger import ledger
from backend.embedded.postgres import Postgres
from tests import catalogs, oracle
from tests.background import background
from tests.plain import Plain
from tests.waiting import until

CAUSE = Cause("test")
CACHES = ("product_city_mapping", "company_city_mapping", "city_counts", "active_cities_cache")


def late(comes: Settle) -> Settle:
    """A pipeline that passes, and all of this comes before it has passed the diff."""
    passes: Iterator[Settle] = iter([comes, lambda instant: True])

    def settle(instant: datetime) -> bool:
        return next(passes)(instant)

    return settle


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    """5 cities, 20 companies, 200 products, and right caches."""
    with Plain(database) as plain:
        catalogs.many(plain, cities=5, companies=20, products=200)
        rebuild_all()
        catalogs.no_events(plain)
        yield plain


def rebuild_all() -> list[Any]:
    return [
        rebuilds.rebuild("products", CAUSE),
        rebuilds.rebuild("companies", CAUSE),
        rebuilds.rebuild_counts(),
    ]


def right(plain: Plain) -> bool:
    return oracle.violations(plain) + oracle.snapshot_violations(plain) == []


def written(plain: Plain) -> dict[str, tuple[int, ...]]:
    """Rows written by all ended sessions so far, by cache table."""
    db.dispose()
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'citycache%'"
    until(lambda: plain.one(gone), what="the sessions end and leave their statistics")
    rows = plain.all(
        "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname IN %s", (CACHES,)
    )
    return {row[0]: row[1:] for row in rows}


def test_a_rebuild_of_right_caches_writes_no_row(plain: Plain) -> None:
    before = written(plain)

    results = rebuild_all()

    assert written(plain) == before
    assert sum(before["product_city_mapping"]) == 200
    assert [result.checked for result in results] == [200, 20, 5]
    assert [result.patched for result in results] == [0, 0, 0]


def test_fills_empty_caches(plain: Plain) -> None:
    removed = rebuilds.empty()
    assert removed == {"product_city_mapping": 200, "company_city_mapping": 20, "city_counts": 5}
    assert oracle.snapshot_violations(plain) == []

    products, companies, counts = rebuild_all()

    assert (products.missing, products.patched, companies.missing, counts.patched) == (200, 200, 20, 0)
    assert right(plain)


@pytest.mark.parametrize(
    ("seconds", "chunks"), [(1_000.0, [20, 40, 80, 60]), (0.0, [20, *[1] * 180])], ids=["fast", "slow"]
)
def test_chunks_follow_from_how_long_they_hold_their_lanes(
    plain: Plain, monkeypatch: pytest.MonkeyPatch, seconds: float, chunks: list[int]
) -> None:
    monkeypatch.setattr(rebuilds, "FIRST_CHUNK", 20)
    monkeypatch.setattr(rebuilds, "CHUNK_SECONDS", seconds)
    rebuilds.empty()

    rebuilds.rebuild("products", CAUSE)

    sizes = plain.all("SELECT count(*) FROM product_city_mapping GROUP BY patch_id ORDER BY patch_id")
    assert [size for (size,) in sizes] == chunks


def test_says_how_many_rows_are_missing_extra_and_different(plain: Plain) -> None:
    plain.run("DELETE FROM product_city_mapping WHERE product_id <= 7")
    plain.run("INSERT INTO product_city_mapping (product_id, city_id, company_id, kind) VALUES (901, 1, 1, 'product')")
    plain.run("UPDATE product_city_mapping SET kind = 'service' WHERE product_id IN (21, 22)")

    found = rebuilds.rebuild("products", CAUSE)

    assert (found.checked, found.missing, found.extra, found.different) == (201, 7, 1, 2)
    assert (found.patched, found.drift, found.delayed) == (10, 10, 0)
    assert sorted(found.keys) == [1, 2, 3, 4, 5, 6, 7, 21, 22, 901]
    assert right(plain)


TAMPERINGS = {
    "products": {
        "a product is in no city": "DELETE FROM product_city_mapping WHERE product_id = 3",
        "a product that is not there": "INSERT INTO product_city_mapping VALUES (999, 1, 1, 'product')",
        "a product in a city that is not there": "INSERT INTO product_city_mapping VALUES (999, 77, 1, 'product')",
        "a product is elsewhere": "UPDATE product_city_mapping SET city_id = 1 + city_id %% 5 WHERE product_id = 3",
        "a product of another company": "UPDATE product_city_mapping SET company_id = 1 WHERE product_id = 3",
        "no product at all": "DELETE FROM product_city_mapping",
        "no active cities": "UPDATE active_cities_cache SET active_city_ids = '{}' WHERE cache_type = 'products'",
        "a total is wrong": "UPDATE active_cities_cache SET total_companies = 1 WHERE cache_type = 'products'",
        "the active row is gone": "DELETE FROM active_cities_cache WHERE cache_type = 'products'",
        "a count is wrong": "UPDATE city_counts SET products_count = products_count + 3 WHERE city_id = 1",
    },
    "companies": {
        "a company is in no city": "DELETE FROM company_city_mapping WHERE company_id = 3",
        "a company that is not there": "INSERT INTO company_city_mapping VALUES (999, 1)",
        "a company is elsewhere": "UPDATE company_city_mapping SET city_id = 1 + city_id %% 5 WHERE company_id = 3",
        "wrong active cities": "UPDATE active_cities_cache SET active_city_ids = '{9}' WHERE cache_type = 'companies'",
        "the active row is gone": "DELETE FROM active_cities_cache WHERE cache_type = 'companies'",
        "a count is wrong": "UPDATE city_counts SET companies_count = 0 WHERE city_id = 1",
    },
    "counts": {
        "a count is wrong": "UPDATE city_counts SET services_count = 77 WHERE city_id = 2",
        "counts are negative": "UPDATE city_counts SET products_count = -1, companies_count = -1",
        "a city has no counts": "DELETE FROM city_counts WHERE city_id = 2",
        "a city that is not there has counts": "INSERT INTO city_counts VALUES (77, 1, 2, 3)",
        "no counts at all": "DELETE FROM city_counts",
    },
}
CASES = [(part, what) for part, cases in TAMPERINGS.items() for what in cases]


@pytest.mark.parametrize(("part", "what"), CASES, ids=[f"{part}: {what}" for part, what in CASES])
def test_each_rebuild_mends_its_part_and_says_so(plain: Plain, part: str, what: str) -> None:
    plain.run(TAMPERINGS[part][what].replace("%%", "%"))

    found: Any = rebuilds.rebuild_counts() if part == "counts" else rebuilds.rebuild(part, CAUSE)  # type: ignore[arg-type]

    assert right(plain)
    if part == "counts":
        assert found.drift == found.patched == found.missing + found.extra + found.different > 0
    else:
        assert found.drift >= 1
        assert found.drift == found.patched or not found.patched


def test_a_row_whose_event_is_still_under_way_is_delay_and_not_drift(plain: Plain) -> None:
    plain.run("UPDATE products SET is_active = false WHERE id IN (10, 11)")
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 12")

    def event_arrives(instant: datetime) -> bool:
        with db.transaction() as connection:
            patch(connection, Keys([10, 11]), CAUSE)
        return True

    found = rebuilds.rebuild("products", CAUSE, settle=event_arrives)

    assert (found.missing, found.extra) == (1, 2)
    assert (found.patched, found.drift, found.delayed, found.settled) == (1, 1, 2, True)
    assert found.keys == [12]
    assert right(plain)


def test_a_row_that_is_written_again_while_the_pipeline_settles_is_delay_and_not_drift(plain: Plain) -> None:
    plain.run("UPDATE products SET is_active = false WHERE id IN (10, 11)")
    plain.run("UPDATE companies SET city_id = NULL WHERE id = 4")
    plain.run("DELETE FROM product_city_mapping WHERE product_id IN (13, 14)")
    plain.run("UPDATE product_city_mapping SET city_id = 99 WHERE product_id = 15")

    def events_arrive_and_newer_writes_come(instant: datetime) -> bool:
        with db.transaction() as connection:
            patch(connection, Keys([10, 11], [4]), CAUSE)
        plain.run("UPDATE products SET is_active = true WHERE id IN (10, 11)")
        plain.run("UPDATE companies SET city_id = 5 WHERE id = 4")
        return True

    products = rebuilds.rebuild("products", CAUSE, settle=late(events_arrive_and_newer_writes_come))

    assert sorted(products.keys) == [13, 14, 15]
    assert products.drift == 3
    assert products.patched >= 5
    assert products.delayed == products.missing + products.extra + products.different - 3


def test_a_row_that_a_patch_under_way_at_the_diff_has_touched_is_not_drift(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its patch has begun before the snapshot and is not in it."""
    plain.run("UPDATE products SET is_active = false WHERE id = 10")
    with db.engine().connect() as early:
        transaction = early.begin()

        def it_begins(connection: Connection, *_: Any) -> Any:
            """A patch, after the lanes have been passed."""
            patch(early, Keys([10]), CAUSE)
            return compare(connection, *_)

        def it_commits_and_a_newer_write_comes(instant: datetime) -> bool:
            transaction.commit()
            plain.run("UPDATE products SET is_active = true WHERE id = 10")
            return True

        compare = diff.compare
        monkeypatch.setattr(diff, "compare", it_begins)
        found = rebuilds.rebuild("products", CAUSE, settle=late(it_commits_and_a_newer_write_comes))

    assert (found.extra, found.patched, found.drift, found.delayed) == (1, 1, 0, 1)


def test_a_rebuild_begins_when_patches_that_were_under_way_have_ended(plain: Plain) -> None:
    plain.run("UPDATE products SET is_active = false WHERE id = 10")
    with db.engine().connect() as early:
        transaction = early.begin()
        patch(early, Keys([10]), CAUSE)

        def end(_: Event) -> None:
            until(lambda: plain.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), 10)
            transaction.commit()

        with background(end):
            found = rebuilds.rebuild("products", CAUSE)

    assert (found.extra, found.patched, found.drift, found.settled) == (0, 0, 0, True)


def test_goes_on_without_a_judgement_beside_a_patch_that_does_not_end(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_way, "PASSING_MS", 300)
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 12")
    with db.transaction() as stuck:
        patch(stuck, Keys([7]), CAUSE)
        found = rebuilds.rebuild("products", CAUSE)

    assert (found.patched, found.drift, found.settled) == (1, 0, False)


def test_a_row_that_changes_there_and_back_and_again_is_delay_and_not_drift(plain: Plain) -> None:
    """The patch that its first event caused found it right, and wrote nothing."""
    plain.run("UPDATE products SET is_active = false WHERE id = 10")
    plain.run("UPDATE companies SET city_id = NULL WHERE id = 4")
    products_of_4 = plain.one("SELECT count(*) FROM products WHERE company_id = 4")

    def there_and_back_and_again(instant: datetime) -> bool:
        for active, city in ((True, 5), (False, None)):
            plain.run("UPDATE products SET is_active = %s WHERE id = 10", (active,))
            plain.run("UPDATE companies SET city_id = %s WHERE id = 4", (city,))
            if active:
                apply(Keys([10], [4]), CAUSE)
        return True

    products = rebuilds.rebuild("products", CAUSE, settle=late(there_and_back_and_again))
    assert (products.patched, products.drift) == (1 + products_of_4, 0)

    plain.run("UPDATE company_city_mapping SET city_id = 5 WHERE company_id = 6")
    companies = rebuilds.rebuild("companies", CAUSE, settle=late(there_and_back_and_again))
    assert (companies.patched, companies.drift, companies.keys) == (2, 1, [6])


def test_products_that_wait_for_a_wide_patch_are_delay_and_not_drift(plain: Plain) -> None:
    plain.run("UPDATE companies SET city_id = NULL WHERE id IN (3, 4)")
    plain.run("INSERT INTO wide_patches (company_id) VALUES (3)")
    of_company_4 = plain.one("SELECT count(*) FROM products WHERE company_id = 4")

    found = rebuilds.rebuild("products", CAUSE)

    assert found.drift == of_company_4
    assert found.delayed == found.patched - of_company_4 > 0


def test_a_row_whose_source_is_deleted_after_the_diff_is_delay_and_not_drift(plain: Plain) -> None:
    plain.run("UPDATE products SET kind = 'service' WHERE id IN (11, 12)")
    plain.run("UPDATE company_city_mapping SET city_id = 99 WHERE company_id IN (3, 4)")

    def deleted(instant: datetime) -> bool:
        apply(Keys([11]), CAUSE)
        plain.run("DELETE FROM products WHERE id = 11 OR company_id = 3")
        plain.run("DELETE FROM companies WHERE id = 3")
        return True

    products = rebuilds.rebuild("products", CAUSE, settle=late(deleted))
    companies = rebuilds.rebuild("companies", CAUSE, settle=lambda instant: True)

    assert products.keys == [12]
    assert sorted(companies.keys) == [3, 4]  # nobody has written the catalog since this one's diff


def test_a_write_between_a_patch_and_what_it_found_is_never_drift(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the lanes are locked, and before the truth is read."""
    plain.run("UPDATE product_city_mapping SET city_id = 99 WHERE product_id = 11")
    plain.run("UPDATE products SET kind = 'service' WHERE id = 12")
    locked = rebuilds.lock

    def event_arrives(instant: datetime) -> bool:
        apply(Keys([12]), CAUSE)
        return True

    def lock_and_write(connection: Any, keys: Keys) -> int:
        number = locked(connection, keys)
        plain.run("UPDATE products SET kind = 'product' WHERE id = 12")
        return number

    monkeypatch.setattr(rebuilds, "lock", lock_and_write)
    found = rebuilds.rebuild("products", CAUSE, settle=event_arrives)
    assert (found.patched, found.keys) == (2, [11])


@pytest.mark.parametrize(
    "change", ["INSERT INTO cities (id, name) VALUES (6, 'new')", "DELETE FROM cities WHERE id = 5"]
)
def test_a_city_whose_event_is_under_way_is_delay_and_not_drift(plain: Plain, change: str) -> None:
    plain.run("UPDATE companies SET city_id = 1 WHERE city_id = 5")
    rebuild_all()
    plain.run(change)

    found = rebuilds.rebuild_counts(settle=lambda instant: False)

    assert found.missing + found.extra == found.patched == found.delayed == 1
    assert (found.drift, found.keys, found.settled) == (0, [], False)
    assert right(plain)


def test_a_city_that_comes_while_the_pipeline_settles_is_delay_beside_one_that_was_lost(plain: Plain) -> None:
    plain.run("INSERT INTO cities (id, name) VALUES (6, 'lost'), (7, 'late')")

    def cities_come_and_go(instant: datetime) -> bool:
        with db.transaction() as connection:
            patch(connection, Keys((), (), [7]), CAUSE)
        plain.run("INSERT INTO cities (id, name) VALUES (8, 'newer')")
        return True

    found = rebuilds.rebuild_counts(settle=late(cities_come_and_go))

    assert (found.missing, found.drift, found.delayed, found.settled) == (2, 1, 1, True)
    assert found.keys == [6]


def test_numbers_that_are_wrong_are_drift_whatever_is_under_way(plain: Plain) -> None:
    plain.run("UPDATE city_counts SET products_count = products_count + 1 WHERE city_id = 2")
    plain.run("DELETE FROM city_counts WHERE city_id = 3")

    found = rebuilds.rebuild_counts(settle=lambda instant: False)

    assert found.keys == [2, 3]
    assert (found.drift, found.delayed) == (2, 0)


def test_says_that_it_cannot_tell_when_the_pipeline_does_not_pass_its_moment(plain: Plain) -> None:
    plain.run("UPDATE products SET is_active = false WHERE id IN (10, 11)")

    found = rebuilds.rebuild("products", CAUSE, settle=lambda instant: False)

    assert (found.patched, found.drift, found.settled) == (2, 0, False)
    assert right(plain)


def test_waits_for_the_pipeline_only_when_something_differs(plain: Plain) -> None:
    asked: list[datetime] = []

    rebuilds.rebuild("products", CAUSE, settle=lambda instant: bool(asked.append(instant)) or True)
    assert asked == []

    before = plain.one("SELECT clock_timestamp()")
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 12")
    rebuilds.rebuild("products", CAUSE, settle=lambda instant: bool(asked.append(instant)) or True)
    assert len(asked) == 2, "after the diff, and when it has stood once"
    assert asked[1] > asked[0] > before


def test_stops_neither_readers_nor_patches_nor_writers(plain: Plain, database: str) -> None:
    plain.run("UPDATE product_city_mapping SET city_id = 5")

    def others_go_on(instant: datetime) -> bool:
        with Plain(database) as other:
            other.run("SET lock_timeout = '1s'")
            other.run("UPDATE products SET is_active = false WHERE id = 50")
            assert other.one("SELECT count(*) FROM product_city_mapping") >= 199
        with db.transaction() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
            patch(connection, Keys([50, 60]), CAUSE)
        return True

    found = rebuilds.rebuild("products", CAUSE, settle=others_go_on)

    assert found.patched == found.different - 2
    assert right(plain)


@pytest.mark.parametrize("window", [1, 7, 199, 200, 201])
def test_compares_in_windows_without_losing_a_row(plain: Plain, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(rebuilds, "WINDOW_ROWS", window)
    monkeypatch.setitem(diff.SQL, "estimate", "SELECT 1000000")
    plain.run("DELETE FROM product_city_mapping WHERE product_id % 3 = 0")
    plain.run("INSERT INTO product_city_mapping SELECT n, 1, 1, 'product' FROM generate_series(1000, 1020) AS n")
    plain.run("INSERT INTO product_city_mapping VALUES (-5, 1, 1, 'product')")

    found = rebuilds.rebuild("products", CAUSE)

    assert (found.checked, found.missing, found.extra) == (222, 66, 22)
    assert right(plain)


def test_looks_at_large_differences_in_two_halves(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REBUILD_CHUNK_KEYS", "10")
    own.settings.cache_clear()
    rebuilds.empty()
    states: list[dict[str, Any]] = []

    found = rebuilds.rebuild("products", CAUSE, progress=states.append)

    assert found.patched == 200
    assert [state["patched"] for state in states[1:]] == sorted(state["patched"] for state in states[1:])
    assert states[-1] == {"checked": 200, "differing": 200, "patched": 200}


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_may_be_killed_at_any_point_and_every_snapshot_agrees(
    plain: Plain, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setenv("REBUILD_CHUNK_KEYS", "10")
    own.settings.cache_clear()
    rebuilds.empty()
    left = steps

    def die(state: dict[str, Any]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    with pytest.raises(Killed):
        rebuilds.rebuild("products", CAUSE, progress=die)
    assert oracle.snapshot_violations(plain) == []

    rebuild_all()
    assert right(plain)


@pytest.mark.parametrize("ended", [True, False])
def test_what_a_run_says_is_done_survives_the_death_of_the_database(configured_own: Postgres, ended: bool) -> None:
    """Chunks are committed without waiting for the disk: the end of their run waits for all of them."""
    run = str(uuid4())
    with Plain(configured_own.url) as plain:
        catalogs.many(plain, cities=5, companies=20, products=200)
        plain.run("ALTER SYSTEM SET wal_writer_delay = '10s'")  # so that nobody else brings commits to the disk
        plain.run("SELECT pg_reload_conf()")
        ledger.begin(run, "refresh_all_caches", "cli", {})
        rebuild_all()
        assert right(plain)
        if ended:
            ledger.finish(run, "SUCCESS")

    configured_own.kill()
    configured_own.start()
    db.dispose()

    with Plain(configured_own.url) as plain:
        assert oracle.snapshot_violations(plain) == []
        if ended:
            assert plain.one("SELECT state FROM task_runs WHERE task_id = %s", [run]) == "SUCCESS"
        else:
            rebuild_all()
        assert right(plain)


def test_a_rebuild_of_a_city_mends_all_that_is_its_own_and_nothing_else(plain: Plain) -> None:
    """Products 4 and 24 are of company 5 in city 1, product 5 of city 2, product 26 of city 3."""
    plain.run("UPDATE product_city_mapping SET city_id = 1 WHERE product_id = 5")  # of another city
    plain.run("UPDATE product_city_mapping SET city_id = 2 WHERE product_id = 4")
    plain.run("CREATE TABLE removed_row AS SELECT * FROM product_city_mapping WHERE product_id = 26")
    plain.run("DELETE FROM product_city_mapping WHERE product_id IN (24, 26)")
    plain.run("UPDATE company_city_mapping SET city_id = 2 WHERE company_id = 5")
    amiss = "services_count = services_count {0} 7, products_count = products_count {1} 7"
    plain.run(f"UPDATE city_counts SET {amiss.format('+', '-')} WHERE city_id IN (1, 3)")
    plain.run("UPDATE active_cities_cache SET active_city_ids = '{2}', total_cities = 1")

    done = app.tasks["rebuild_city"].apply(kwargs={"city_id": 1}, task_id=str(uuid4())).get()

    products, companies, counts = (done["parts"][name] for name in ("products", "companies", "counts"))
    assert (done["city_id"], done["patched"], counts["checked"]) == (1, 8, 2)
    assert [products[name] for name in ("checked", "missing", "extra", "patched")] == [41, 2, 1, 3]
    assert [companies[name] for name in ("checked", "missing", "extra", "patched")] == [4, 1, 0, 1]
    plain.run("INSERT INTO product_city_mapping SELECT * FROM removed_row")
    plain.run(f"UPDATE city_counts SET {amiss.format('-', '+')} WHERE city_id = 3")
    assert oracle.violations(plain) + oracle.snapshot_violations(plain) == []


@pytest.mark.parametrize("window", [1, 7])
def test_a_rebuild_of_a_city_compares_in_windows_of_its_own_rows(
    plain: Plain, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """City 1 has 40 of the 200 products; the others count for no window."""
    monkeypatch.setattr(rebuilds, "WINDOW_ROWS", window)
    monkeypatch.setitem(diff.SQL, "estimate", "SELECT 1000000")
    plain.run("DELETE FROM product_city_mapping WHERE city_id = 1 AND product_id % 3 = 0")
    plain.run("UPDATE product_city_mapping SET city_id = 1 WHERE product_id IN (5, 100)")  # of other cities
    plain.run("UPDATE product_city_mapping SET city_id = 2 WHERE product_id IN (4, 199)")
    plain.run("INSERT INTO product_city_mapping SELECT n, 1, 1, 'product' FROM generate_series(1000, 1009) AS n")
    plain.run("INSERT INTO product_city_mapping VALUES (-5, 1, 1, 'product')")
    in_city = "company_id IN (SELECT id FROM companies WHERE city_id = 1)"
    missing = 2 + plain.one(f"SELECT count(*) FROM products WHERE id % 3 = 0 AND {in_city}")
    states: list[dict[str, Any]] = []

    products, _, _ = rebuilds.rebuild_city(1, CAUSE, progress=states.append)

    checked = [state["checked"] for state in states[:-1] if "patched" not in state]  # the last one is of the companies
    assert (products.checked, products.missing, products.extra) == (53, missing, 13)
    assert max(end - begin for begin, end in pairwise([0, *checked])) <= 2 * window, "on either side"
    assert len(checked) <= 53 // window + 1, "none is spent on other cities' rows"
    assert right(plain)


def test_a_dry_run_writes_nothing_and_shows_rows_before_and_after(plain: Plain) -> None:
    plain.run("UPDATE products SET kind = 'service', company_id = 20 WHERE id = 1")
    plain.run("DELETE FROM products WHERE id = 2")
    before = written(plain)

    shown = outlook.dry_run(lambda connection: [("products", [1, 2, 3]), ("companies", [1])])

    assert written(plain) == before
    assert shown["would_change"]["product_city_mapping"] == 2
    assert shown["would_change"]["company_city_mapping"] == 0
    first, second = shown["rows"]
    assert (first["key"], first["before"]["kind"], first["after"]["kind"]) == (1, "product", "service")
    assert (second["key"], second["after"]) == (2, None)


def test_the_diff_needs_no_writable_transaction(plain: Plain) -> None:
    plain.run("DELETE FROM company_city_mapping WHERE company_id IN (4, 5)")

    with db.snapshot() as connection:
        found = {difference.table: difference for difference in diff.compare_all(connection)}

    assert list(found) == list(CACHES)
    assert found["company_city_mapping"].missing == [4, 5]
    assert found["company_city_mapping"].summary() == {"checked": 20, "missing": 2, "extra": 0, "different": 0}
    assert [len(found[table].keys) for table in CACHES] == [0, 2, 0, 0]
