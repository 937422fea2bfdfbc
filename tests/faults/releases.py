"""Two releases beside each other under load: `python -m tests.faults.releases --log table`.

As docs/upgrading.md says: the schema goes first, then each process of the older release is replaced by one of this
release, which runs beside it for a moment. Then back, and again in the opposite order. Nothing may be wrong or lost,
and no API may fail a health check or a read while it serves.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.error import HTTPError

from backend.embedded.postgres import Postgres
from backend.embedded.rabbitmq import RabbitMQ
from events import topology
from tests import oracle
from tests.background import background
from tests.faults.captured import captured, logged
from tests.faults.failover import flows, prepare
from tests.faults.plant import QUIET, Plant
from tests.servers import ROOT
from tests.system import EVERYTHING
from tests.waiting import until

OLDER: Final = "c379d0b"  # of 0.1.0: its schema is 0021, and its log is a stream always
ASKED: Final = ("/health/live", "/health/ready", "/api/v1/cities?limit=1")
ASKED_SECONDS: Final = 0.2
IN_THE_WAY: Final = "event_log_default"  # a table that a migration makes after others
DRAWN: Final = "SELECT last_value FROM event_outbox_id_seq"
READY_SECONDS: Final = 20.0  # for an API that has just answered
MIX_SECONDS: Final = 120.0  # the longest that writers may take for the events of a mixture
WRITES: Final = {  # a second, of so many rows each
    "INSERT INTO products (company_id, name, kind) SELECT 5001 + n %% 20, 'p', CASE n %% 2 WHEN 0 THEN 'product' ELSE"
    " 'service' END FROM generate_series(1, %s) AS n": 0.4,
    "UPDATE products SET is_active = NOT is_active WHERE id IN"
    " (SELECT id FROM products WHERE id %% 10 > 0 ORDER BY random() LIMIT %s)": 0.4,
    "DELETE FROM products WHERE id IN (SELECT id FROM products WHERE id %% 10 = 0 ORDER BY id LIMIT %s)": 0.04,
    "WITH few AS (SELECT n FROM generate_series(1, greatest(1, %s / 20)) AS n) UPDATE companies"
    " SET city_id = 1001 + (companies.id + floor(random() * 5)::int) %% 5 FROM few WHERE companies.id = 5000 + n": 0.2,
}  # statement → its share of the rows


@dataclass(frozen=True)
class Plan:
    """What is to happen."""

    log: str = "stream"  # EVENT_LOG
    rate: int = 300  # events a second, about
    seconds: float = 3.0  # with each mixture


@dataclass
class Outcome:
    """What came of it."""

    events: int = 0
    lost: int = 0  # of them, those that neither log has
    holes: int = 0  # of them, those that the log lacks though it says it has all from before they were made
    replaced: int = 0
    answers: Counter[str] = field(default_factory=Counter)  # by what was asked and what came
    refused: list[str] = field(default_factory=list)  # answers that must not be
    slowest_flow: float = 0.0  # seconds that a change took after a replacement
    wrong: list[str] = field(default_factory=list)  # what the oracle finds
    ended: list[str] = field(default_factory=list)  # processes that ended by themselves, or badly when asked to

    def flowed(self, seconds: float) -> None:
        """So long a change took."""
        self.slowest_flow = max(self.slowest_flow, seconds)

    def complaints(self) -> list[str]:
        """Everything that must not be."""
        found = [*self.wrong, *self.ended, *self.refused]
        found += [f"{self.lost} of {self.events} events are lost"] * bool(self.lost)
        found += [f"{self.holes} events are missing in a log that says it has them"] * bool(self.holes)
        return found + ["no events"] * (not self.events)


class Older(Plant):
    """The processes of another revision of the code, with the packages of this one."""

    def __init__(self, database: str, broker: str, place: Path, code: Path, **environment: str) -> None:
        super().__init__(database, broker, place, **environment, PYTHONPATH=str(code))
        self.code = code


class Asker:
    """Asks all APIs that serve, again and again."""

    def __init__(self, outcome: Outcome) -> None:
        self.serving: list[Plant] = []
        self._outcome = outcome

    def ask(self, stop: threading.Event) -> None:
        """Until stopped."""
        while not stop.wait(ASKED_SECONDS):
            for plant in tuple(self.serving):
                for path in ASKED:
                    self._note(plant, path, answer(plant.api_url + path))

    def _note(self, plant: Plant, path: str, told: str) -> None:
        if plant in self.serving:  # its end came while it was asked
            self._outcome.answers[f"{path} {told[:3]}"] += 1
            if told != "200":
                self._outcome.refused.append(f"{plant.code.name}: {path} answered {told}")


def answer(url: str) -> str:
    """200, or what came instead."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.status)
    except HTTPError as refused:
        return f"{refused.code} {refused.read(2_000).decode(errors='replace')}"
    except (OSError, HTTPException) as failure:
        return f"{type(failure).__name__} {failure}"


def code_of(revision: str, place: Path) -> Path:
    """The repository's files at that revision, in a folder."""
    place.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "archive", revision, "backend", "events"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    subprocess.run(["tar", "-x", "-C", place], input=archive.stdout, check=True, timeout=60)
    return place


def run(database: str, broker: str, place: Path, older: str, plan: Plan) -> Outcome:
    """Upgrade and roll back in both orders, and upgrade; then drain and compare. AssertionError when something does not
    end in time."""
    outcome = Outcome()
    settings = {**QUIET, "EVENT_LOG": plan.log}
    with (
        Older(database, broker, place / "older", code_of(older, place / older), **settings) as old,
        Plant(database, broker, place / "newer", **settings) as new,
    ):
        migrated(old)
        prepare(old)
        old.started()
        asker = Asker(outcome)
        asker.serving.append(old)
        with background(asker.ask), writing(old, plan.rate):
            fail_to_migrate(old, new, outcome)
            migrated(new)
            for order in (EVERYTHING, EVERYTHING[::-1]):
                replace(old, new, order, asker, plan, outcome)
                replace(new, old, order, asker, plan, outcome)
            replace(old, new, EVERYTHING, asker, plan, outcome)
        new.drain(120)
        outcome.wrong = oracle.of(database)
        judge(new, outcome, plan)
    return outcome


def migrated(plant: Plant) -> None:
    """To the schema of its release."""
    done = plant.command("migrate", patience=120)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def writing(plant: Plant, rate: int) -> Iterator[None]:
    """All WRITES meanwhile, every half second."""
    with ExitStack() as stack:
        for statement, share in WRITES.items():
            stack.enter_context(plant.writing(statement, max(1, int(rate * share / 2)), 0.5))
        yield


def fail_to_migrate(old: Plant, new: Plant, outcome: Outcome) -> None:
    """A migration that fails midway leaves the schema and the older release's processes as they are."""
    with old.sql() as sql:
        sql.run(f"CREATE TABLE {IN_THE_WAY} ()")
        before = sql.one("SELECT version_num FROM alembic_version")
        done = new.command("migrate", patience=120)
        assert done.returncode != 0, "a migration succeeded that must not"
        sql.run(f"DROP TABLE {IN_THE_WAY}")
        assert sql.one("SELECT version_num FROM alembic_version") == before
    outcome.flowed(flows(old))


def replace(old: Plant, new: Plant, order: Iterable[str], asker: Asker, plan: Plan, outcome: Outcome) -> None:
    """One process after the other; the new one runs before the old one is asked to end."""
    for name in order:
        new.start([name])
        if name == "api":
            outcome.refused += unready(new)
            asker.serving.append(new)
        outcome.flowed(flows(new))
        mix(new, int(plan.rate * plan.seconds))
        if name == "api":
            asker.serving.remove(old)
        if not old.runs(name):
            outcome.ended.append(f"{old.code.name}: {name} ended by itself:\n{old.log(name)[-1500:]}")
        process = old.process(name)
        old.stop([name])
        if (code := process.poll()) not in (0, -signal.SIGTERM):  # it may not have come to its handlers yet
            outcome.ended.append(f"{old.code.name}: {name} ended with {code}:\n{old.log(name)[-1500:]}")
        outcome.flowed(flows(new))
        outcome.replaced += 1


def unready(plant: Plant) -> list[str]:
    """What its API says of itself, where it is not ready in time."""
    url = plant.api_url + "/health/ready"
    with suppress(AssertionError):
        until(lambda: answer(url) == "200", READY_SECONDS)
    told = answer(url)
    return [] if told == "200" else [f"{plant.code.name}: not ready: {told}"]


def mix(plant: Plant, events: int) -> None:
    """Return when so many events more have been made."""
    with plant.sql() as sql:
        begun = sql.one(DRAWN)
        plant.wait_until(lambda: sql.one(DRAWN) >= begun + events, MIX_SECONDS, "there are writes")


def judge(plant: Plant, outcome: Outcome, plan: Plan) -> None:
    """What became of each event that was captured."""
    with plant.sql() as sql:
        events = captured(sql)
        in_table = set(sql.column("SELECT event_id::text FROM event_log"))
        source, since = sql.all("SELECT source, since FROM event_log_source")[0]
        assert source == plan.log, f"the log is the {source}"
        promised = set(
            sql.column(
                "SELECT event_id::text FROM captured WHERE at > coalesce(%s::timestamptz, '-infinity')", (since,)
            )
        )
    in_stream = set(logged(plant.broker))
    outcome.events, outcome.lost = len(events), len(events - in_table - in_stream)
    outcome.holes = len(promised - (in_table if plan.log == "table" else in_stream))


def show(outcome: Outcome, plan: Plan) -> None:
    """Print it for a person."""
    print(f"EVENT_LOG={plan.log}: {outcome.replaced} processes replaced under load, {outcome.events:,} events")
    print(f"{outcome.lost} lost, {outcome.holes} missing in the log, {len(outcome.wrong)} tables wrong")
    print(f"answers: {', '.join(f'{what}: {number:,}' for what, number in sorted(outcome.answers.items()))}")
    print(f"a change came through within {outcome.slowest_flow:.1f} s after each replacement")
    for complaint in outcome.complaints():
        print(f"  {complaint}")


def main() -> int:
    """0 when nothing was lost, wrong or refused, 1 when something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.releases", description=__doc__)
    parser.add_argument("--older", default=OLDER, help=f"the revision of the older release (default: {OLDER})")
    parser.add_argument("--log", choices=("stream", "table"), default="stream", help="EVENT_LOG (default: stream)")
    parser.add_argument("--rate", type=int, default=300, help="events a second, about (default: 300)")
    parser.add_argument("--seconds", type=float, default=3, help="with each mixture (default: 3)")
    wishes = parser.parse_args()
    plan = Plan(wishes.log, wishes.rate, wishes.seconds)
    with tempfile.TemporaryDirectory(prefix="releases-") as scratch:
        place = Path(scratch)
        node = RabbitMQ(place / "rabbitmq", policies=topology.POLICIES)
        with Postgres(place / "postgres") as postgres, node as rabbitmq:
            for folder in ("older", "newer"):
                (place / folder).mkdir()
            outcome = run(postgres.url, rabbitmq.url, place, wishes.older, plan)
    show(outcome, plan)
    return 1 if outcome.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())
