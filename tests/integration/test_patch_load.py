"""Patches side by side: no deadlock, no lost difference, and no snapshot that contradicts itself."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from backend.app import db
from backend.app.caches import rebuilds
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import patch, recount, repair_active
from tests import catalogs, oracle
from tests.plain import Plain, snapshot

SECONDS: Final = 5.0
CITIES, COMPANIES, PRODUCTS = 6, 20, 150  # few, so that all collide
WRITES: Final = (
    "UPDATE products SET company_id = 1 + floor(random() * %(companies)s) WHERE id %% 7 = %(n)s %% 7",
    "UPDATE products SET is_active = NOT is_active WHERE id = %(n)s",
    "UPDATE products SET kind = CASE kind WHEN 'product' THEN 'service' ELSE 'product' END WHERE id %% 5 = %(n)s %% 5",
    "UPDATE companies SET city_id = nullif(%(n)s %% (%(cities)s + 1), 0) WHERE id = 1 + %(n)s %% %(companies)s",
    "UPDATE companies SET is_active = NOT is_active WHERE id = 1 + %(n)s %% %(companies)s",
    "DELETE FROM products WHERE id = %(n)s",
    "INSERT INTO products (id, company_id, name) VALUES (%(n)s, 1 + %(n)s %% 20, 'back') ON CONFLICT DO NOTHING",
)


@pytest.fixture
def plain(database: str, configured_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plain]:
    with Plain(database) as plain:
        catalogs.many(plain, CITIES, COMPANIES, PRODUCTS)
        yield plain


class Crowd:
    """Threads that each do one thing over and over until the time is up."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.rounds: dict[str, int] = {}
        self._end = time.monotonic() + SECONDS
        self._threads: list[threading.Thread] = []

    def add(self, name: str, work: Callable[[random.Random], None]) -> None:
        """Start a thread; it gets random numbers of its own."""
        thread = threading.Thread(target=self._repeat, args=(name, work), name=name)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait for all; raises what any of them raised."""
        for thread in self._threads:
            thread.join(SECONDS + 30)
            assert not thread.is_alive(), f"{thread.name} hangs"
        if self.failures:
            raise self.failures[0]

    def _repeat(self, name: str, work: Callable[[random.Random], None]) -> None:
        dice = random.Random(name)
        try:
            while time.monotonic() < self._end and not self.failures:
                work(dice)
                self.rounds[name] = self.rounds.get(name, 0) + 1
        except BaseException as failure:
            self.failures.append(failure)


def patch_some(dice: random.Random) -> None:
    """A shuffled, overlapping part of all keys, in one transaction."""
    keys = Keys(
        dice.sample(range(1, PRODUCTS + 1), dice.randint(0, 60)),
        dice.sample(range(1, COMPANIES + 1), dice.randint(0, 8)),
        dice.sample(range(1, CITIES + 1), dice.randint(0, 3)),
    )
    with db.transaction() as connection:
        patch(connection, keys, Cause("test"))


def repair(dice: random.Random) -> None:
    """A recount, and both active rows."""
    with db.transaction() as connection:
        found = recount(connection)
        assert not [*found.missing, *found.extra, *found.different]
    with db.transaction() as connection:
        assert not repair_active(connection, dice.choice(("products", "companies")))


def test_patches_recounts_and_rebuilds_never_deadlock_and_every_snapshot_agrees(plain: Plain, database: str) -> None:
    rebuilds.rebuild("products", Cause("test"))
    rebuilds.rebuild("companies", Cause("test"))
    rebuilds.rebuild_counts()
    writers = [Plain(database, name=f"writer {number}") for number in range(2)]

    def write(writer: Plain) -> Callable[[random.Random], None]:
        return lambda dice: _write(writer, dice)

    def look(_: random.Random) -> None:
        with snapshot(database) as reader:
            assert oracle.snapshot_violations(reader) == []

    crowd = Crowd()
    for number, writer in enumerate(writers):
        crowd.add(f"writer {number}", write(writer))
    for number in range(4):
        crowd.add(f"patcher {number}", patch_some)
    crowd.add("recount", repair)
    crowd.add("rebuild", lambda dice: _rebuild(dice))
    crowd.add("reader", look)
    crowd.join()

    assert plain.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert min(crowd.rounds.values()) > 5, crowd.rounds
    with db.transaction() as connection:
        everything = Keys(range(1, PRODUCTS + 1), range(1, COMPANIES + 1), range(1, CITIES + 1))
        patch(connection, everything, Cause("test"))
    assert oracle.of(database) == []
    for writer in writers:
        writer.close()


def _write(writer: Plain, dice: random.Random) -> None:
    numbers = {"n": dice.randint(1, PRODUCTS), "companies": COMPANIES, "cities": CITIES}
    writer.run(dice.choice(WRITES), numbers)


def _rebuild(dice: random.Random) -> None:
    rebuilt = rebuilds.rebuild(dice.choice(("products", "companies")), Cause("test"))
    assert rebuilt.counts_corrected == 0
    assert not rebuilt.active_repaired


def test_clearing_and_rebuilding_go_beside_patches(plain: Plain, database: str) -> None:
    crowd = Crowd()
    for number in range(2):
        crowd.add(f"patcher {number}", patch_some)
    crowd.add("clearing", lambda dice: rebuilds.empty() and None)
    crowd.add("rebuild", lambda dice: rebuilds.rebuild(dice.choice(("products", "companies")), Cause("test")) and None)
    crowd.join()

    assert plain.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    rebuilds.rebuild("products", Cause("test"))
    rebuilds.rebuild("companies", Cause("test"))
    assert oracle.of(database) == []
