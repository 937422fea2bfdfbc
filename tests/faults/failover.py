"""The primary is killed under a steady load, its standby promoted: `python -m tests.faults.failover --rate 1000`.

With a synchronous standby nothing that was acknowledged may be gone. With an asynchronous one the latest writes vanish,
but not the events that they had made: those are hints, and what they hint at is looked at as it is now.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg2

from backend.embedded.postgres import Postgres, find_binaries
from backend.embedded.rabbitmq import RabbitMQ
from events import topology
from tests import oracle
from tests.background import background
from tests.faults.captured import captured, logged, note_captured
from tests.faults.plant import QUIET, Plant
from tests.faults.world import NO_SCHEDULE
from tests.plain import Plain
from tests.servers import migrate
from tests.system import EVERYTHING
from tests.waiting import until

FLOWS_AGAIN: Final = 15.0  # seconds after the promotion
RIGHT_AGAIN: Final = 60.0  # seconds after all is drained, in which patches that vanished are made again
WRITERS: Final = 4
ROWS: Final = 10  # of a transaction, each of them an event
CUT_SECONDS: Final = 1.0  # of writing, which an asynchronous standby lacks when the primary dies
SLOWEST: Final = 4  # times as long as asked for may the writing take
ADD: Final = (
    "INSERT INTO products (external_id, company_id, name, kind)"
    " SELECT %s || '-' || n, 5001 + n %% 20, 'p', CASE n %% 2 WHEN 0 THEN 'product' ELSE 'service' END"
    " FROM generate_series(1, %s) AS n RETURNING external_id"
)


@dataclass(frozen=True)
class Plan:
    """What is to happen."""

    is_synchronous: bool
    rate: float = 1_000  # events a second
    seconds: float = 10  # of writing before the death, and again after the promotion

    @property
    def rows(self) -> float:
        """That are to be acknowledged before the death, and again after the promotion."""
        return self.rate * self.seconds


@dataclass
class Outcome:
    """What came of it."""

    acknowledged: int = 0  # rows whose commit the writers were told of
    before: int = 0  # of them, those before the death
    after: int = 0  # and those after the promotion
    per_second: float = 0.0  # of those before
    vanished: int = 0  # of them, those that the new primary does not have
    events: int = 0  # that the new primary knows of
    lost: int = 0  # of them, those that the log does not have
    flows_seconds: float = 0.0  # from the promotion until a new change is in the caches
    right_seconds: float = 0.0  # from the promotion until the caches equal the catalog, with nobody writing any more
    wrong: list[str] = field(default_factory=list)  # what the oracle finds then
    ended: list[str] = field(default_factory=list)  # processes that did not live through it

    def complaints(self, plan: Plan) -> list[str]:
        """Everything that must not be."""
        found = [f"{name} ended" for name in self.ended] + self.wrong
        written = {"before the death": self.before, "after the promotion": self.after}
        found += [f"only {rows} rows were written {when}" for when, rows in written.items() if rows < plan.rows]
        found += [f"{self.lost} events are lost"] * bool(self.lost)
        found += [f"events flow after {self.flows_seconds:.1f} s"] * (self.flows_seconds > FLOWS_AGAIN)
        if plan.is_synchronous:
            found += [f"{self.vanished} acknowledged rows are gone"] * bool(self.vanished)
        else:
            found += ["the standby lacked nothing of what was written last"] * (not self.vanished)
        return found


class Writers:
    """Connections that commit rows at a steady rate to whoever is primary, and remember what was acknowledged."""

    def __init__(self, url: str, rate: float) -> None:
        self._url = url + "?target_session_attrs=read-write"
        self._rate, self._pause = rate, WRITERS * ROWS / rate
        self._lock = threading.Lock()
        self.acknowledged: set[str] = set()
        self.connected: set[int] = set()  # those that have a primary

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """All of them write meanwhile."""
        with ExitStack() as stack:
            for number in range(WRITERS):
                stack.enter_context(background(lambda stop, number=number: self._write(stop, number)))  # type: ignore[misc]
            yield

    def go_on(self, seconds: float) -> int:
        """Return when so many more rows are acknowledged as the rate makes in these seconds, or too late; how many."""
        begun, wanted = len(self.acknowledged), self._rate * seconds
        with suppress(AssertionError):
            until(lambda: len(self.acknowledged) >= begun + wanted, SLOWEST * seconds + 30)
        return len(self.acknowledged) - begun

    def _write(self, stop: threading.Event, number: int) -> None:
        batch, began = 0, time.time()
        while not stop.is_set():
            with suppress(psycopg2.OperationalError, psycopg2.InterfaceError), Plain(self._url, name="writer") as sql:
                self.connected.add(number)
                sql.run("SET synchronous_commit = on")
                due = time.monotonic()
                while not stop.is_set():
                    due += self._pause
                    batch += 1
                    rows = sql.column(ADD, (f"{began}-{number}-{batch}", ROWS))
                    with self._lock:
                        self.acknowledged.update(rows)
                    stop.wait(max(0.0, due - time.monotonic()))
            self.connected.discard(number)
            stop.wait(0.05)


def standby_of(primary: Postgres, place: Path) -> Postgres:
    """Another server, not started yet, that follows the primary."""
    place.mkdir(mode=0o700)
    command = [str(find_binaries() / "pg_basebackup"), "-d", primary.dsn_of("postgres"), "-D", str(place / "data")]
    subprocess.run([*command, "-R", "-c", "fast"], check=True, capture_output=True, timeout=120)
    shutil.copy(primary.data_dir / "password", place / "password")
    return Postgres(place)


def both(primary: Postgres, standby: Postgres, options: str = "") -> str:
    """A URL of the two, the standby first."""
    return re.sub(r"@[^/]+/", f"@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/", primary.url) + options


def run(primary: Postgres, standby: Postgres, broker: str, place: Path, plan: Plan) -> Outcome:
    """Write, kill, promote, write on; then drain and compare. AssertionError when something does not end in time."""
    outcome, through = Outcome(), both(primary, standby)
    writers = Writers(through, plan.rate)
    with (
        Plant(primary.url, broker, place, database_through=through, **QUIET) as plant,
        Plain(standby.url) as follower,
    ):
        prepare(plant)
        if plan.is_synchronous:
            _wait_for_standby(plant)
        plant.started()
        pids = {name: plant.pid(name) for name in EVERYTHING}
        with writers.at_work():
            began = time.monotonic()
            outcome.before = writers.go_on(plan.seconds)
            outcome.per_second = outcome.before / (time.monotonic() - began)
            _lose(primary, follower, plan.is_synchronous, writers)
            promoted_at = time.monotonic()
            plant.servers = (standby.url, broker)
            outcome.flows_seconds = flows(plant)
            outcome.after = writers.go_on(plan.seconds)
        plant.drain(180)
        outcome.ended = [name for name in EVERYTHING if not plant.runs(name) or plant.pid(name) != pids[name]]
        _await_right(plant, 0.0 if plan.is_synchronous else RIGHT_AGAIN)
        outcome.right_seconds = time.monotonic() - promoted_at
        _judge(plant, writers, outcome)
    return outcome


def prepare(plant: Plant) -> None:
    """The companies of which writers add products; all events are written down, and no rebuild is due."""
    with plant.sql() as sql:
        note_captured(sql)
        sql.run(NO_SCHEDULE)
        sql.run("INSERT INTO cities (id, name) SELECT n, 'c' FROM generate_series(1001, 1005) AS n")
        added = "INSERT INTO companies (id, name, city_id) SELECT n, 'c', 1001 + n % 5"
        sql.run(f"{added} FROM generate_series(5001, 5020) AS n")


def _wait_for_standby(plant: Plant) -> None:
    """From now on no commit is acknowledged before the standby has it."""
    with plant.sql() as sql:
        sql.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        sql.run("SELECT pg_reload_conf()")
        until(lambda: sql.one("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1, 20)


def _lose(primary: Postgres, follower: Plain, is_synchronous: bool, writers: Writers) -> None:
    """Kill the primary, and promote the standby once every writer has noticed."""
    if not is_synchronous:
        follower.run("ALTER SYSTEM SET primary_conninfo = ''")
        follower.run("SELECT pg_reload_conf()")
        until(lambda: follower.one("SELECT count(*) FROM pg_stat_wal_receiver") == 0, 10, "it follows no more")
        writers.go_on(CUT_SECONDS)
    primary.kill()
    until(lambda: not writers.connected, 20, "the writers are cut off")
    follower.run("SELECT pg_promote()")


def flows(plant: Plant) -> float:
    """Seconds until a change that comes now is in the caches."""
    began = time.monotonic()
    with plant.sql() as sql:
        company = sql.one("INSERT INTO companies (name, city_id) VALUES ('new', 1001) RETURNING id")
        cached = "SELECT EXISTS (SELECT FROM company_city_mapping WHERE company_id = %s)"
        plant.wait_until(lambda: sql.one(cached, (company,)), 60, "events flow again")
    return time.monotonic() - began


def _await_right(plant: Plant, seconds: float) -> None:
    """Patches that vanished are made again by themselves, soon."""
    with suppress(AssertionError):
        until(lambda: not plant.violations(), seconds)


def _judge(plant: Plant, writers: Writers, outcome: Outcome) -> None:
    with plant.sql() as sql:
        there = set(sql.column("SELECT external_id FROM products"))
        events = captured(sql)
        outcome.acknowledged, outcome.vanished = len(writers.acknowledged), len(writers.acknowledged - there)
        outcome.events, outcome.lost = len(events), len(events - set(logged(plant.broker)))
    outcome.wrong = oracle.of(plant.servers[0])


def main() -> int:
    """0 when nothing was lost or wrong, 1 when something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.failover", description=__doc__)
    parser.add_argument("--rate", type=float, default=1_000, help="events a second (default: 1000)")
    parser.add_argument("--seconds", type=float, default=20, help="of writing, before and after (default: 20)")
    parser.add_argument("--asynchronous", action="store_true", help="the standby has not everything")
    wishes = parser.parse_args()
    return play(Plan(not wishes.asynchronous, wishes.rate, wishes.seconds))


def play(plan: Plan) -> int:
    """Once on servers of its own, told to a person; 0 when nothing was lost or wrong, 1 when something was."""
    with tempfile.TemporaryDirectory(prefix="failover-") as scratch, ExitStack() as stack:
        place = Path(scratch)
        primary = stack.enter_context(Postgres(place / "primary"))
        migrate(primary.url)
        standby = stack.enter_context(standby_of(primary, place / "standby"))
        node = RabbitMQ(place / "rabbitmq", policies=topology.POLICIES)
        stack.callback(node.kill)
        node.start()
        outcome = run(primary, standby, node.url, place, plan)
    print(f"the primary is lost, its standby follows {'synchronously' if plan.is_synchronous else 'asynchronously'}")
    for name, value in vars(outcome).items():
        print(f"{name.replace('_', ' '):<20} {value if isinstance(value, (int, list)) else round(value, 1)}")
    complaints = outcome.complaints(plan)
    print("\n".join(complaints) or "nothing is lost or wrong", flush=True)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
