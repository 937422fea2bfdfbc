"""Recounts beside cities that come and go: no row stays for a city that is gone, and nothing is counted twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from sqlalchemy import Connection

from backend.app import db, settings
from backend.app.caches import rebuilds
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import clear, lock, patch, recount
from backend.app.errors import BadSetting
from backend.app.tasks.single_flight import FLIGHTS
from tests import catalogs, oracle
from tests.plain import Plain
from tests.waiting import until

CAUSE: Final = Cause("test")
GONE: Final = 9  # a city that comes and goes


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    """The small catalog with right caches, and a city whose event has not been applied yet."""
    with Plain(database) as plain:
        catalogs.small(plain)
        rebuilds.rebuild("products", CAUSE)
        rebuilds.rebuild("companies", CAUSE)
        plain.run("INSERT INTO cities (id, name) VALUES (%s, 'gone')", (GONE,))
        yield plain


def in_transaction(work: Callable[[Connection], object]) -> None:
    with db.transaction() as connection:
        work(connection)


def patched(*cities: int, products: tuple[int, ...] = (), companies: tuple[int, ...] = ()) -> None:
    in_transaction(lambda connection: patch(connection, Keys(products, companies, cities), CAUSE))


def waits(plain: Plain) -> bool:
    return bool(plain.one("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


def violations(plain: Plain) -> list[str]:
    return oracle.violations(plain) + oracle.snapshot_violations(plain)


def test_the_event_of_a_city_that_goes_waits_for_the_recount_that_makes_its_row(plain: Plain) -> None:
    with db.engine().connect() as connection:
        with connection.begin():
            assert recount(connection).missing == [GONE]
            plain.run("DELETE FROM cities WHERE id = %s", (GONE,))
            applying = threading.Thread(target=patched, args=(GONE,))
            applying.start()
            until(lambda: waits(plain))
        applying.join(10)

    assert violations(plain) == []


def test_a_recount_that_waited_looks_again_at_the_cities_that_differed(plain: Plain) -> None:
    recounting = threading.Thread(target=in_transaction, args=(recount,))
    with db.transaction() as holder:
        lock(holder, Keys(cities=[GONE]))
        recounting.start()
        until(lambda: waits(plain))
        plain.run("DELETE FROM cities WHERE id = %s", (GONE,))
        patch(holder, Keys(cities=[GONE]), CAUSE)
    recounting.join(10)

    assert violations(plain) == []


def test_a_city_whose_counts_row_is_wrong_and_that_goes_meanwhile_leaves_nothing(plain: Plain) -> None:
    patched(GONE)
    plain.run("UPDATE city_counts SET services_count = 5 WHERE city_id = %s", (GONE,))
    recounting = threading.Thread(target=in_transaction, args=(recount,))
    with db.transaction() as holder:
        lock(holder, Keys(cities=[GONE]))
        recounting.start()
        until(lambda: waits(plain))
        plain.run("DELETE FROM cities WHERE id = %s", (GONE,))
        patch(holder, Keys(cities=[GONE]), CAUSE)
    recounting.join(10)

    assert violations(plain) == []


def test_counts_of_a_missing_row_are_not_added_twice_beside_a_patch(plain: Plain) -> None:
    plain.run("DELETE FROM city_counts WHERE city_id = 1; UPDATE products SET is_active = false WHERE id = 100")
    with db.transaction() as patching:
        patch(patching, Keys([100]), CAUSE)
        recounting = threading.Thread(target=in_transaction, args=(recount,))
        recounting.start()
        until(lambda: waits(plain))
    recounting.join(10)
    patched(GONE)
    rebuilds.rebuild_counts(active=True)

    assert violations(plain) == []


def test_two_recounts_and_a_clearing_go_one_after_the_other(plain: Plain) -> None:
    plain.run("UPDATE city_counts SET products_count = products_count + 7")
    work = [threading.Thread(target=in_transaction, args=(recount,)) for _ in range(2)]
    work.append(threading.Thread(target=rebuilds.empty))
    for thread in work:
        thread.start()
    for thread in work:
        thread.join(20)

    assert oracle.snapshot_violations(plain) == []


def test_cities_that_come_and_go_beside_recounts_leave_no_row_behind(plain: Plain, database: str) -> None:
    """Each write is followed by the patch of its own key only, as events do it: the last one makes it right."""
    over = threading.Event()

    def live(seed: int) -> None:
        dice = random.Random(seed)
        with Plain(database) as own:
            for _ in range(60):
                city, company = dice.randint(40, 43), dice.randint(1000, 1003)
                own.run(
                    dice.choice(
                        (
                            "INSERT INTO cities (id, name) VALUES (%(city)s, 'c') ON CONFLICT DO NOTHING",
                            "DELETE FROM cities WHERE id = %(city)s",
                            "INSERT INTO companies (id, name, city_id) VALUES (%(company)s, 'c',"
                            " (SELECT id FROM cities WHERE id = %(city)s FOR KEY SHARE)) ON CONFLICT (id)"
                            " DO UPDATE SET city_id = excluded.city_id",
                        )
                    ),
                    {"city": city, "company": company},
                )
                patched(city, companies=(company,))

    def count() -> None:
        while not over.is_set():
            in_transaction(recount)

    lives = [threading.Thread(target=live, args=(seed,)) for seed in range(4)]
    counting = threading.Thread(target=count)
    for thread in (counting, *lives):
        thread.start()
    for thread in lives:
        thread.join(60)
    over.set()
    counting.join(20)
    patched(GONE, *range(40, 44), companies=tuple(range(1000, 1004)))
    deadlocks = plain.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")

    assert violations(plain) == []
    assert deadlocks == 0


def test_clearing_takes_few_locks_however_many_lanes_there_are(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCH_LANES", "1024")
    settings.settings.cache_clear()
    with db.transaction() as connection:
        clear(connection)
        held = connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()").scalar_one()

    assert held < 64  # max_locks_per_transaction


def test_more_lanes_than_the_lock_table_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCH_LANES", "4096")
    settings.settings.cache_clear()
    with pytest.raises(BadSetting, match="PATCH_LANES"):
        settings.settings()
    settings.settings.cache_clear()


def test_flights_keep_their_numbers_over_releases() -> None:
    released = {"products": 0, "companies": 1, "counts": 2, "all": 3, "clear": 4, "wide": 5, "replay": 6}

    assert {name: FLIGHTS[name] for name in released} == released
    assert len(set(FLIGHTS.values())) == len(FLIGHTS)
