"""Every committed event is published, and soon: `python -m tests.faults.long_transactions`.

Transactions are open for random times, with savepoints, prepared or not, and end in any order beside short ones and
beside a relay that is killed and suspended. A queue of the test's own says when each event arrived.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kombu import Connection

from backend.embedded.postgres import Postgres
from backend.embedded.rabbitmq import RabbitMQ
from events import topology
from events.outbox import LEADER_LOCK
from tests.background import background
from tests.faults.plant import Plant, plant_on
from tests.faults.writers import Writers
from tests.plain import Plain
from tests.servers import CAREFREE, Databases, Vhosts
from tests.waiting import until

LATE_SECONDS: Final = 2.0  # after its commit an event is published, while a relay runs
LAST_SECONDS: Final = 20.0  # for the last events to arrive
LEADER: Final = f"""
    SELECT max(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = {LEADER_LOCK} AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


@dataclass(frozen=True)
class Plan:
    """What is to happen."""

    seed: int
    transactions: int
    longest: float  # seconds that one is open
    at_once: int = 50
    rows: int = 200_000  # that there are to be changed
    disturbed: bool = True  # meanwhile the relay is killed and suspended
    waves: int = 10  # of a few transactions on a quiet system, afterwards


@dataclass(frozen=True)
class Report:
    """What came of it."""

    committed: int  # events
    missing: list[str]  # committed and never published, by subject
    undone: list[str]  # published although rolled back
    late: dict[str, float]  # seconds after the commit while a relay ran
    latest: float  # seconds
    downs: int  # how often the relay was killed or suspended

    @property
    def complaints(self) -> list[str]:
        """Everything that must not be."""
        return [
            *(f"{subject} was committed and never published" for subject in self.missing),
            *(f"{subject} was rolled back and published" for subject in self.undone),
            *(f"{subject} was published {seconds:.1f} s after its commit" for subject, seconds in self.late.items()),
        ]


class Arrivals:
    """When each subject came out of the exchange, monotonic."""

    def __init__(self, broker: str) -> None:
        self.at: dict[str, float] = {}
        self._connection = Connection(broker)
        channel: Any = self._connection.channel()
        topology.declare(channel)
        queue = channel.queue_declare("", exclusive=True).queue
        channel.queue_bind(queue, topology.EVENTS.name, "catalog.#")
        channel.basic_consume(queue, callback=self._take, no_ack=True)

    def follow(self, stop: threading.Event) -> None:
        """Take what comes, until stopped."""
        while not stop.is_set():
            try:
                self._connection.drain_events(timeout=0.1)
            except TimeoutError:
                continue
        self._connection.close()

    def _take(self, message: Any) -> None:
        now = time.monotonic()
        for event in json.loads(message.body):
            self.at.setdefault(event["subject"], now)


class Disturber:
    """Kills and suspends the relay; knows when none could publish."""

    def __init__(self, plant: Plant, seed: int) -> None:
        self.downs: list[tuple[float, float]] = []  # from, to, monotonic
        self._plant, self._dice = plant, random.Random(seed)

    def work(self, stop: threading.Event) -> None:
        """Until stopped, which leaves a relay that leads."""
        with self._plant.sql() as sql:
            while not stop.wait(self._dice.uniform(1, 4)):
                begin = time.monotonic()
                (self._kill if self._dice.random() < 0.5 else self._suspend)(sql)
                self.downs.append((begin, time.monotonic()))

    def _kill(self, sql: Plain) -> None:
        before = sql.one(LEADER)
        self._plant.kill("relay")
        self._plant.start(["relay"])
        self._plant.wait_until(lambda: sql.one(LEADER) not in (None, before), 30, "the relay leads again")

    def _suspend(self, sql: Plain) -> None:
        self._plant.suspend("relay")
        threading.Event().wait(self._dice.uniform(0.2, 3))
        self._plant.resume("relay")


def run(plant: Plant, plan: Plan) -> Report:
    """Play, wait for the last events, compare."""
    writers, arrivals = Writers(plant.servers[0], plan.seed, plan.longest), Arrivals(plant.servers[1])
    writers.prepare(plan.rows)
    plant.start(["relay"])
    disturber = Disturber(plant, plan.seed)
    with plant.sql() as sql:
        plant.wait_until(lambda: sql.one(LEADER) is not None, 30, "a relay leads")
    with background(arrivals.follow):
        with background(writers.run_short), ExitStack() as disturbances:
            if plan.disturbed:
                disturbances.enter_context(background(disturber.work, 40))
            writers.run_crowd(plan.transactions, plan.at_once)
        writers.run_waves(plan.waves)
        committed = writers.outcome.committed
        _wait_for(arrivals, committed)
    return _judged(committed, writers.outcome.undone, arrivals.at, disturber.downs)


def _wait_for(arrivals: Arrivals, committed: dict[str, float]) -> None:
    try:
        until(lambda: committed.keys() <= arrivals.at.keys(), LAST_SECONDS)
    except AssertionError:
        return  # what is missing is judged


def _judged(
    committed: dict[str, float], undone: set[str], arrived: dict[str, float], downs: Sequence[tuple[float, float]]
) -> Report:
    missing = sorted(committed.keys() - arrived.keys())
    waits = {
        subject: _seconds_up(at, arrived[subject], downs) for subject, at in committed.items() if subject in arrived
    }
    late = {subject: seconds for subject, seconds in waits.items() if seconds > LATE_SECONDS}
    latest = max(waits.values(), default=0.0)
    return Report(len(committed), missing, sorted(undone & arrived.keys()), late, latest, len(downs))


def _seconds_up(begin: float, end: float, downs: Sequence[tuple[float, float]]) -> float:
    """Of this time, that in which a relay ran."""
    return (end - begin) - sum(max(0.0, min(end, to) - max(begin, since)) for since, to in downs)


def main() -> int:
    """0 when every event was published in time, 1 when one was not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.long_transactions", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--transactions", type=int, default=2_000)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds that one is open (default: 20)")
    wishes = parser.parse_args()
    plan = Plan(wishes.seed, wishes.transactions, wishes.longest)
    with tempfile.TemporaryDirectory(prefix="long-transactions-") as scratch:
        place = Path(scratch)
        with (
            Postgres(place / "postgres", settings=CAREFREE) as postgres,
            RabbitMQ(place / "rabbitmq", management=True) as node,
            plant_on(Databases(postgres), Vhosts(node), place / "system") as plant,
        ):
            report = run(plant, plan)
    print(
        f"seed {plan.seed}: {plan.transactions:,} transactions, open for up to {plan.longest:g} s, {plan.at_once} at a"
        f" time, and {plan.waves} waves of a few; the relay down {report.downs} times\n"
        f"{report.committed:,} events committed, {len(report.missing)} missing, {len(report.undone)} undone,"
        f" {len(report.late)} late, the latest after {report.latest:.2f} s"
    )
    for complaint in report.complaints[:50]:
        print(f"  {complaint}")
    return 1 if report.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
