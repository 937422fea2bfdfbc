"""The one writer: for the keys it is given the caches become right, whatever they held, and nothing else is written."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff, rebuilds
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import Patched, clear, lock, patch, recount, repair_active
from tests import catalogs, oracle
from tests.plain import Plain
from tests.servers import ROOT
from tests.waiting import until

CAUSE = Cause("test")
CITIES, COMPANIES, PRODUCTS = [1, 2, 3], [10, 20, 30], [100, 101, 102, 200, 300]


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    """The small catalog, and caches that are right."""
    with Plain(database) as plain:
        catalogs.small(plain)
        patched(PRODUCTS, COMPANIES, CITIES)
        catalogs.no_events(plain)
        yield plain


def patched(products: Sequence[int] = (), companies: Sequence[int] = (), cities: Sequence[int] = ()) -> Patched:
    """One patch in a transaction of its own."""
    with db.transaction() as connection:
        return patch(connection, Keys(list(products), list(companies), list(cities)), CAUSE)


def violations(plain: Plain) -> list[str]:
    return oracle.violations(plain) + oracle.snapshot_violations(plain)


def counts(plain: Plain, city: int) -> tuple[int, int, int] | None:
    """Products, services and companies of a city; None without a row."""
    rows = plain.all(
        "SELECT products_count, services_count, companies_count FROM city_counts WHERE city_id = %s", (city,)
    )
    return rows[0] if rows else None  # type: ignore[return-value]


def active(plain: Plain, cache_type: str) -> list[int]:
    return list(plain.one("SELECT active_city_ids FROM active_cities_cache WHERE cache_type = %s", (cache_type,)))


SUSPENDED = """
import os, signal
from backend.app import db
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import patch
try:
    with db.transaction() as connection:
        patch(connection, Keys([100], [10], [1]), Cause("test"))
        os.kill(os.getpid(), signal.SIGSTOP)
except Exception as failure:
    print(type(failure).__name__)
"""


def test_who_is_suspended_in_the_middle_of_a_patch_keeps_others_from_its_keys_for_seconds_only(plain: Plain) -> None:
    plain.run("UPDATE products SET is_active = false WHERE id = 100")
    command = [sys.executable, "-c", SUSPENDED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as suspended:
        try:
            until(lambda: "\nState:\tT" in Path(f"/proc/{suspended.pid}/status").read_text(), 30, "it is suspended")
            assert counts(plain, 1) == (2, 1, 1), "it has not committed"

            patched([100])

            assert violations(plain) == []
            assert counts(plain, 1) == (1, 1, 1)
        finally:
            suspended.send_signal(signal.SIGCONT)
        assert suspended.communicate(timeout=30)[0] == "DatabaseAway\n", "and tries again"


# What a patch does


def test_fills_empty_caches(plain: Plain) -> None:
    assert violations(plain) == []
    assert counts(plain, 1) == (2, 1, 1)
    assert counts(plain, 3) == (0, 0, 0)
    assert (active(plain, "products"), active(plain, "companies")) == ([1, 2], [1, 2])


def test_answers_what_it_changed(plain: Plain) -> None:
    plain.run("UPDATE products SET company_id = 20 WHERE id = 100")
    plain.run("UPDATE companies SET is_active = false WHERE id = 30")

    answer = patched([100, 101, 300], [10, 30])

    assert (list(answer.products), list(answer.companies), list(answer.cities)) == ([100], [], [1, 2])
    assert answer.rows == 1


CHANGES = {
    "goods become a service": "UPDATE products SET kind = 'service' WHERE id = 100",
    "a product is switched off": "UPDATE products SET is_active = false WHERE id = 200",
    "the only product of a city goes": "DELETE FROM products WHERE id = 200",
    "a product changes its company and its city": "UPDATE products SET company_id = 20 WHERE id = 100",
    "a product goes online": "UPDATE products SET company_id = 30 WHERE id = 200",
    "a company moves": "UPDATE companies SET city_id = 3 WHERE id = 20",
    "a company leaves its city": "UPDATE companies SET city_id = NULL WHERE id = 10",
    "a company gets a city": "UPDATE companies SET city_id = 3 WHERE id = 30",
    "a company is switched off": "UPDATE companies SET is_active = false WHERE id = 10",
    "a company is deleted with its products": "DELETE FROM companies WHERE id = 10",
    "two companies change places": "UPDATE companies SET city_id = 3 - city_id WHERE id IN (10, 20)",
    "a city is deleted": "DELETE FROM cities WHERE id = 1",
    "all cities are deleted": "DELETE FROM cities",
    "a city comes": "INSERT INTO cities (id, name) VALUES (4, 'new')",
    "everything is deleted": "DELETE FROM companies; DELETE FROM cities",
    "a company comes with a product": """
        INSERT INTO companies (id, name, city_id) VALUES (40, 'z', 3);
        INSERT INTO products (id, company_id, name, kind) VALUES (400, 40, 'p', 'service')""",
    "deleted and made again under the same id, elsewhere": """
        DELETE FROM companies WHERE id = 10;
        INSERT INTO companies (id, name, city_id) VALUES (10, 'again', 3);
        INSERT INTO products (id, company_id, name, kind) VALUES (101, 10, 'again', 'service')""",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_follows(plain: Plain, change: str) -> None:
    plain.run(change)

    patched([*PRODUCTS, 400], [*COMPANIES, 40], [*CITIES, 4])

    assert violations(plain) == []


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_follows_one_key_at_a_time_in_any_order_and_agrees_with_itself_between(plain: Plain, change: str) -> None:
    plain.run(change)

    for city in [4, *CITIES]:
        patched(cities=[city])
        assert oracle.snapshot_violations(plain) == []
    for product in [400, *PRODUCTS]:
        patched([product])
        assert oracle.snapshot_violations(plain) == []
    for company in [40, *COMPANIES]:
        patched(companies=[company])
        assert oracle.snapshot_violations(plain) == []
    patched(cities=[*CITIES, 4])

    assert violations(plain) == []


def test_what_is_planned_once_follows_each_change(plain: Plain) -> None:
    for company in (20, 30, 10, 20):
        plain.run("UPDATE products SET company_id = %s WHERE id = 100", (company,))
        assert list(patched([100]).products) == [100]
        assert violations(plain) == []

    with db.transaction() as connection:
        planned = connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements").scalars().all()
    assert any("INSERT INTO product_city_mapping" in statement for statement in planned)


def test_looks_at_no_other_key(plain: Plain) -> None:
    plain.run("UPDATE products SET is_active = false WHERE id IN (100, 101)")

    patched([100])

    assert plain.column("SELECT product_id FROM product_city_mapping ORDER BY 1") == [101, 102, 200]
    assert counts(plain, 1) == (1, 1, 1)


def test_a_city_enters_and_leaves_the_active_ones_as_its_count_crosses_zero(plain: Plain) -> None:
    plain.run("UPDATE products SET company_id = 30 WHERE id = 200")
    patched([200])
    assert (active(plain, "products"), active(plain, "companies")) == ([1], [1, 2])

    plain.run("UPDATE companies SET city_id = 3 WHERE id IN (20, 30)")
    patched([200, 300], [20, 30])
    assert (active(plain, "products"), active(plain, "companies")) == ([1, 3], [1, 3])

    plain.run("UPDATE products SET kind = 'service' WHERE company_id = 30")
    patched([200, 300])
    assert active(plain, "products") == [1, 3]
    assert violations(plain) == []


def test_keeps_the_counts_of_a_deleted_city_until_its_last_mapping_has_left_it(plain: Plain) -> None:
    plain.run("DELETE FROM cities WHERE id = 1")

    patched(cities=[1])
    assert counts(plain, 1) == (2, 1, 1)
    patched([100, 101], [10])
    assert counts(plain, 1) == (0, 1, 0)
    patched([102])

    assert counts(plain, 1) is None
    assert violations(plain) == []


def test_a_city_that_is_gone_and_has_nothing_is_dropped_by_its_own_event(plain: Plain) -> None:
    plain.run("DELETE FROM cities WHERE id = 3")

    patched(cities=[3])

    assert counts(plain, 3) is None


def test_a_city_made_again_while_its_last_mapping_leaves_has_counts(plain: Plain) -> None:
    """Two patches meet: one drops the counts of a city that is gone, the other one has heard that it is back."""
    plain.run("DELETE FROM cities WHERE id = 2")
    patched([], [20])
    with db.transaction() as connection:
        patch(connection, Keys([200]), CAUSE)
        plain.run("INSERT INTO cities (id, name) VALUES (2, 'back')")
        back = threading.Thread(target=patched, kwargs={"cities": [2]})
        back.start()
        until(lambda: _waits(plain) or not back.is_alive())
    back.join(10)

    assert violations(plain) == []


def test_follows_keys_at_the_ends_of_bigint(plain: Plain) -> None:
    ends = [-(2**63), 2**63 - 1]
    for end in ends:
        plain.run("INSERT INTO cities (id, name) VALUES (%s, 'end')", (end,))
        plain.run("INSERT INTO companies (id, name, city_id) VALUES (%s, 'end', %s)", (end, end))
        plain.run("INSERT INTO products (id, company_id, name) VALUES (%s, %s, 'end')", (end, end))

    patched(ends, ends, ends)

    assert violations(plain) == []


# What it writes


Rows = dict[str, tuple[int, int, int]]


def written(connection: Connection) -> Rows:
    """Rows inserted, updated and deleted by this connection since its statistics were sent last, by table."""
    rows = connection.exec_driver_sql("""
        SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_xact_user_tables
         WHERE n_tup_ins + n_tup_upd + n_tup_del > 0""")
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def write(change: Callable[[Connection], Any]) -> Rows:
    """What `change` writes, run in a transaction on a fresh connection."""
    db.dispose()
    with db.transaction() as connection:
        change(connection)
        return written(connection)


def test_writes_nothing_for_what_is_right(plain: Plain) -> None:
    plain.run("UPDATE products SET name = 'of no interest'")
    plain.run("UPDATE cities SET name = 'of no interest'")

    def everything(connection: Connection) -> None:
        assert patch(connection, Keys(PRODUCTS, COMPANIES, CITIES), CAUSE) == Patched([], [], [])
        recount(connection)
        repair_active(connection, "products")
        repair_active(connection, "companies")

    assert write(everything) == {}


def test_writes_only_the_rows_that_differ(plain: Plain) -> None:
    plain.run("UPDATE products SET kind = 'service' WHERE id = 100")

    assert write(lambda connection: patch(connection, Keys(PRODUCTS, COMPANIES, CITIES), CAUSE)) == {
        "product_city_mapping": (0, 1, 0),
        "city_counts": (0, 1, 0),
        "patches": (1, 0, 0),
        "city_changes": (1, 0, 0),  # for the counts: whoever keeps answers of them hears of it
    }


def test_a_move_inside_a_city_leaves_counts_and_active_cities_alone(plain: Plain) -> None:
    plain.run("INSERT INTO companies (id, name, city_id) VALUES (11, 'next door', 1)")
    patched(companies=[11])
    plain.run("UPDATE products SET company_id = 11 WHERE id = 100")

    wrote = write(lambda connection: patch(connection, Keys([100]), CAUSE))

    assert wrote == {"product_city_mapping": (0, 1, 0), "patches": (1, 0, 0)}
    assert violations(plain) == []


def test_remembers_who_changed_a_row_and_why(plain: Plain) -> None:
    plain.run("UPDATE products SET is_active = (id <> 200), kind = 'service' WHERE id IN (100, 200)")
    task_id = "0b4f5b0a-7b0e-4c60-9d0a-000000000001"
    cause = Cause("apply_catalog_events", task_id, {"product/100": "e1", "product/200": "e2", "product/101": "e3"})

    with db.transaction() as connection:
        patch(connection, Keys([100, 101, 200]), cause)

    (patch_id,) = plain.column("SELECT patch_id FROM product_city_mapping WHERE product_id = 100")
    (gone_id,) = plain.column("SELECT patch_id FROM removed_keys WHERE noun = 'product' AND id = 200")
    assert patch_id == gone_id
    task, task_run, subjects, events = plain.all(
        "SELECT task, task_id::text, subjects, event_ids FROM patches WHERE id = %s", (patch_id,)
    )[0]
    assert (task, task_run) == ("apply_catalog_events", task_id)
    assert dict(zip(subjects, events, strict=True)) == {"product/100": "e1", "product/200": "e2"}


# Locks


def _waits(plain: Plain) -> bool:
    return bool(plain.one("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_refuses_a_snapshot_older_than_its_lock(plain: Plain, level: str) -> None:
    for write in (
        lambda connection: patch(connection, Keys([100]), CAUSE),
        lambda connection: patch(connection, Keys(), CAUSE),
        recount,
        clear,
    ):
        with db.engine().connect() as connection:
            connection.execution_options(isolation_level=level)
            with pytest.raises(RuntimeError, match="READ COMMITTED"):
                write(connection)

    assert violations(plain) == []


def test_sees_what_was_committed_while_it_waited_for_its_lock(plain: Plain) -> None:
    """The event of the second write may be gone by then: whoever waited must see that write."""
    with db.transaction() as holder:
        lock(holder, Keys([100]))
        waiting = threading.Thread(target=patched, args=([100],))
        waiting.start()
        until(lambda: _waits(plain))
        plain.run("UPDATE products SET company_id = 20 WHERE id = 100")
    waiting.join(10)

    assert violations(plain) == []


def test_two_patches_of_one_key_from_one_barrier_leave_it_right(plain: Plain, database: str) -> None:
    barrier = threading.Barrier(3, timeout=10)

    def write_and_patch(company: int) -> None:
        with Plain(database) as writer:
            for _ in range(15):
                barrier.wait()
                writer.run("UPDATE products SET company_id = %s WHERE id IN (100, 101)", (company,))
                patched([100, 101])
                barrier.wait()

    threads = [threading.Thread(target=write_and_patch, args=(company,)) for company in (10, 20)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        barrier.wait()
        barrier.wait()
        assert violations(plain) == []
    for thread in threads:
        thread.join(10)


def test_patches_of_different_lanes_go_side_by_side(plain: Plain) -> None:
    plain.run("UPDATE products SET kind = 'service' WHERE id IN (100, 101)")
    with db.transaction() as first, db.transaction() as second:
        lock(first, Keys([100]))
        lock(second, Keys([101]))
        patch(second, Keys([101]), CAUSE)
        patch(first, Keys([102]), CAUSE)

    patched([100])
    assert violations(plain) == []


def test_a_recount_adds_its_difference_beside_a_patch_under_way(plain: Plain) -> None:
    plain.run("UPDATE city_counts SET products_count = 90 WHERE city_id = 1")
    plain.run("UPDATE products SET is_active = false WHERE id = 100")
    with db.transaction() as patching:
        patch(patching, Keys([100]), CAUSE)
        recounting = threading.Thread(target=rebuilds.rebuild_counts)
        recounting.start()
        until(lambda: _waits(plain))
    recounting.join(10)

    assert violations(plain) == []


@pytest.mark.parametrize("cache_type", ["products", "companies"])
@pytest.mark.parametrize(
    "tampering", ["DELETE FROM active_cities_cache", "UPDATE active_cities_cache SET total_products = 7"]
)
def test_repairs_an_active_row_beside_a_patch_under_way(plain: Plain, cache_type: Any, tampering: str) -> None:
    plain.run(f"{tampering} WHERE cache_type = '{cache_type}'")
    plain.run("UPDATE companies SET city_id = 3 WHERE id = 30")

    def repair() -> None:
        with db.transaction() as connection:
            repair_active(connection, cache_type)

    with db.transaction() as patching:
        patch(patching, Keys([300], [30]), CAUSE)
        repairing = threading.Thread(target=repair)
        repairing.start()
        until(lambda: _waits(plain) or not repairing.is_alive())
    repairing.join(10)

    assert violations(plain) == []


def test_clearing_waits_for_patches_and_they_for_it(plain: Plain) -> None:
    plain.run("UPDATE products SET is_active = false WHERE id = 100")
    with db.transaction() as patching:
        patch(patching, Keys([100]), CAUSE)
        clearing = threading.Thread(target=rebuilds.empty)
        clearing.start()
        until(lambda: _waits(plain))
    clearing.join(10)

    with db.snapshot() as connection:
        assert [found.table for found in diff.compare_all(connection) if found.missing or found.different]
    assert oracle.snapshot_violations(plain) == []
    patched(PRODUCTS, COMPANIES, CITIES)
    assert violations(plain) == []
