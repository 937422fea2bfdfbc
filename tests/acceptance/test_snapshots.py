"""Every snapshot agrees with itself: 1,000 REPEATABLE READ reads beside 4 writers, 2 workers and rebuilds."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests import catalogs, oracle
from tests.acceptance import operating
from tests.acceptance.operating import right, run_task
from tests.plain import Plain, snapshot
from tests.servers import Databases, Vhosts
from tests.system import System

READS: Final = 1_000
STATES: Final = 350  # of the caches, different ones among those that are read
RUN_SECONDS: Final = 150.0  # for a rebuild beside all the others, on a machine that has other tests to run
READERS: Final = 2
WRITERS: Final = 4
READER_SECONDS: Final = 0.015  # between two reads: the same state twice shows nothing
WRITER_SECONDS: Final = 0.01  # between two writes
CITIES, COMPANIES, PRODUCTS = 20, 100, 1_500
TASKS: Final = ("refresh-all-caches", "update-cities-product-count", "update-product-city-cache")
WRITES: Final = (
    "UPDATE products SET is_active = NOT is_active WHERE id %% 97 = %(n)s %% 97",
    "UPDATE products SET kind = CASE %(n)s %% 2 WHEN 0 THEN 'service' ELSE 'product' END WHERE id = 1 + %(n)s %% 1499",
    "UPDATE products SET company_id = 1 + %(n)s %% 100 WHERE id IN (1 + %(n)s %% 1500, 1 + %(n)s %% 1499)",
    "UPDATE companies SET city_id = nullif(%(n)s %% 21, 0) WHERE id = 1 + %(n)s %% 100",
    "UPDATE companies SET is_active = NOT is_active WHERE id = 1 + %(n)s %% 100",
    "DELETE FROM products WHERE id = 1 + %(n)s %% 1500",
    """INSERT INTO products (id, company_id, name) SELECT 1 + %(n)s %% 1500 + i, 1 + %(n)s %% 100, 'new'
         FROM generate_series(0, 20) AS i ON CONFLICT DO NOTHING""",
)


@pytest.fixture(scope="module")
def running(
    databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Plain]]:
    """API, relay and two workers; limits so low that wide patches and full batches occur."""
    limits = {"WIDE_PATCH_KEYS": "12", "BATCH_KEYS": "100", "REBUILD_CHUNK_KEYS": "50"}
    place = tmp_path_factory.mktemp("snapshots")
    with operating.running(databases, vhosts, place, "api", "relay", "worker", "worker-2", **limits) as (system, plain):
        catalogs.many(plain, CITIES, COMPANIES, PRODUCTS)
        right(plain)
        yield system, plain


class Load:
    """Writers, readers and rebuilds in threads; the first failure ends them all."""

    def __init__(self, system: System) -> None:
        self.reads = 0
        self.states = set[int]()
        self.writes = 0
        self.runs: list[dict[str, Any]] = []
        self.violations: list[str] = []
        self.failures: list[BaseException] = []
        self._system = system
        self._end = threading.Event()
        self._counting = threading.Lock()

    def run(self) -> None:
        """Until READS reads of STATES states are done."""
        readers = [threading.Thread(target=self._guarded, args=(self._read, seed)) for seed in range(READERS)]
        others = [threading.Thread(target=self._guarded, args=(self._write, seed)) for seed in range(WRITERS)]
        others.append(threading.Thread(target=self._guarded, args=(self._rebuild, 0)))
        for thread in (*others, *readers):
            thread.start()
        for thread in readers:
            thread.join(200)
        self._end.set()
        for thread in others:
            thread.join(RUN_SECONDS)
        assert not any(thread.is_alive() for thread in (*others, *readers))
        if self.failures:
            raise self.failures[0]

    def _guarded(self, work: Any, seed: int) -> None:
        try:
            work(seed)
        except BaseException as failure:
            self.failures.append(failure)
            self._end.set()

    def _read(self, seed: int) -> None:
        with snapshot(self._system.database) as reader:
            while not self._is_enough() and not self._end.wait(READER_SECONDS):
                found = oracle.snapshot_violations(reader)
                state = reader.one("SELECT count(*) FROM patches")
                reader.rollback()
                with self._counting:
                    self.reads += 1
                    self.states.add(state)
                    self.violations += found

    def _is_enough(self) -> bool:
        return bool(self.violations) or (self.reads >= READS and len(self.states) >= STATES)

    def _write(self, seed: int) -> None:
        dice = random.Random(seed)
        with Plain(self._system.database, name=f"writer {seed}") as writer:
            writer.run("SET deadlock_timeout = '100ms'")
            while not self._end.wait(WRITER_SECONDS):
                try:
                    writer.run(dice.choice(WRITES), {"n": dice.randrange(10**6)})
                except Exception as failure:
                    if "deadlock" not in str(failure):  # of two writers, who lock rows in any order
                        raise
                self.writes += 1

    def _rebuild(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self._end.is_set():
            self.runs.append(run_task(self._system, dice.choice(TASKS), RUN_SECONDS))


@pytest.mark.timeout(600)
def test_no_snapshot_contradicts_itself(running: tuple[System, Plain]) -> None:
    system, plain = running
    load = Load(system)

    load.run()

    assert load.violations == []
    assert load.reads >= READS
    assert len(load.states) >= STATES
    assert load.writes > 500
    assert len(load.runs) >= 3
    assert {run["state"] for run in load.runs} == {"SUCCESS"}
    right(plain)


def test_nothing_drifted_while_rebuilds_and_patches_met(running: tuple[System, Plain]) -> None:
    """After all of the above: no run has found a row that events would not have mended."""
    system, plain = running

    drifted = plain.all("SELECT task, result FROM task_runs WHERE (result->>'drift')::int > 0")
    assert drifted == []
    assert plain.one("SELECT count(*) FROM dead_letters") == 0
    assert run_task(system, "refresh-all-caches")["result"]["patched"] == 0
