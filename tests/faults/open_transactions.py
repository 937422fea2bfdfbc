"""Transactions that stay open beside all faults, and a look whether a row of the outbox stands because of them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg2

from events.outbox import LEADER_LOCK
from tests.faults.world import FLOW_SECONDS, World
from tests.faults.writers import Writers, end_prepared
from tests.waiting import until

AT_ONCE: Final = 10
ABOVE: Final = 2**40  # ids that no sequence comes to
LOOK_EVERY: Final = 0.1
STANDS_SECONDS: Final = 5.0  # in the outbox, while a relay leads and nothing is faulty
OLDEST: Final = f"""
    SELECT event_id::text FROM event_outbox
     WHERE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = {LEADER_LOCK} AND granted)
     ORDER BY id LIMIT 500"""


class OpenTransactions:
    """Writers with savepoints, prepared or not, that end in any order."""

    def __init__(self, world: World, seed: int, longest: float) -> None:
        """A transaction is open for up to `longest` seconds."""
        self._world, self._dice = world, random.Random(seed)
        self._url = world.plant.servers[0]
        self._seed, self._longest = seed, longest
        self.interruptions = 0  # by a server that went away
        self.committed = 0  # rows

    def work(self, stop: threading.Event) -> None:
        """Until stopped; no prepared transaction stays."""
        writers = Writers(self._url, self._seed, self._longest, stop, ABOVE)
        self._insist(lambda: writers.make(int(self._longest * 1_000)))
        while not stop.is_set():
            try:
                writers.run_crowd(AT_ONCE, AT_ONCE)
            except psycopg2.Error:
                self.interruptions += 1
                self._insist(lambda: end_prepared(self._url, self._dice))
        self.committed = len(writers.outcome.committed)

    def _insist(self, act: Callable[[], None]) -> None:
        until(lambda: _tried(act), FLOW_SECONDS, "the database answers writers")


def _tried(act: Callable[[], None]) -> bool:
    try:
        act()
    except psycopg2.Error:
        return False
    return True


class Standing:
    """Rows of the outbox that stay although a relay leads and nothing is faulty."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seconds: dict[str, float] = {}  # calm ones that a row has stood, by its event
        self.found: set[str] = set()  # events that stood too long

    def work(self, stop: threading.Event) -> None:
        """Look again and again until stopped."""
        last = time.monotonic()
        while not stop.wait(LOOK_EVERY):
            now = time.monotonic()
            self._add(now - last if self._world.is_calm else 0.0)
            last = now

    def _add(self, seconds: float) -> None:
        try:
            with self._world.plant.sql() as sql:
                rows = sql.column(OLDEST)
        except psycopg2.Error:
            return
        self._seconds = {event: self._seconds.get(event, -seconds) + seconds for event in rows}
        self.found |= {event for event, stood in self._seconds.items() if stood > STANDS_SECONDS}
