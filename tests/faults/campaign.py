"""A campaign: the feed plays, faults come by a seeded schedule, and at the end all has to be there and right."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from backend.app.ledger.lifeline import EVERY_SECONDS, GRACE_SECONDS
from tests.background import background
from tests.faults.captured import captured, logged
from tests.faults.clients import Clients
from tests.faults.faults import Fault
from tests.faults.feed import Feed
from tests.faults.open_transactions import OpenTransactions, Standing
from tests.faults.operator import PATIENCE, Operator
from tests.faults.world import FLOW_SECONDS, World

TWO_AT_ONCE: Final = 0.2  # of the faults come before the one before has been recovered from
PAUSE_SECONDS: Final = 1.0  # at most, between a recovery and the next fault
DRAIN_SECONDS: Final = 180.0
RUNS_SECONDS: Final = 2 * (GRACE_SECONDS + EVERY_SECONDS) + 20  # the lifeline's: a run is missed only once it is old
RATE: Final = 150  # lines a second
CALLED_WRONG: Final = """
    SELECT 'the auditor found ' || side || ' ' || cache || '/' || key || ' at ' || found_at FROM audit_findings
    UNION ALL SELECT task || ' found drift of ' || (result ->> 'drift') || ' rows at ' || started_at
                FROM task_runs WHERE (result ->> 'drift')::int > 0"""


@dataclass
class Report:
    """What came of a campaign."""

    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)  # by kind
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # seconds, by kind
    lines: int = 0  # of the feed, applied
    interruptions: int = 0  # of the import
    open_rows: int = 0  # committed by transactions that stayed open, with savepoints, prepared or not
    standing: list[str] = field(default_factory=list)  # events that stood in the outbox while nothing was faulty
    drain_seconds: float = 0.0
    events: int = 0  # captured
    repeated: int = 0  # of them, those that the log holds more than once
    lost: int = 0  # of them, those that it does not hold
    violations: list[str] = field(default_factory=list)  # rows that the oracle finds wrong
    called_wrong: list[str] = field(default_factory=list)  # rows that the auditor or a rebuild did; nobody made them so
    audited: int = 0  # rows that the auditor compared
    dead_letters: list[str] = field(default_factory=list)  # those still open, and why
    unfinished: list[str] = field(default_factory=list)  # runs that never ended
    runs: Counter[str] = field(default_factory=Counter)  # of rebuilds and replays, by task and state
    failures: list[str] = field(default_factory=list)  # of them, and why
    answers: Counter[int] = field(default_factory=Counter)  # of the API, by status
    slow_answers: list[str] = field(default_factory=list)
    operations: int = 0  # of clients who read what they have written
    fresh_reads: int = 0  # of them, answers that said yes
    impossible: list[str] = field(default_factory=list)  # of them, reads that could not have been

    @property
    def kills(self) -> int:
        """Processes and servers ended by SIGKILL."""
        return sum(number for kind, number in self.faults.items() if kind.startswith(("kill", "outage")))

    @property
    def complaints(self) -> list[str]:
        """Everything that must not be."""
        found = [*self.violations, *self.called_wrong, *self.dead_letters, *self.unfinished, *self.impossible]
        found += [f"{len(self.standing)} events stood in the outbox, such as {self.standing[:3]}"] * bool(self.standing)
        found += [f"{self.lost} events are lost"] * bool(self.lost)
        found += [f"the API answered {status}" for status in self.answers if status >= 500 and status != 503]
        return found


@dataclass(frozen=True)
class Plan:
    """What is to happen."""

    seed: int
    minutes: float
    kinds: Sequence[Fault]
    tasks: bool = False  # start rebuilds and replays as well; they mend what was lost, so without them it is stricter
    longest: float = 60.0  # seconds that a fault may last
    longest_open: float = 20.0  # seconds that a transaction stays open
    clients: int = 3  # who write and read over HTTP, and whose history is checked


def run(
    world: World, plan: Plan, tell: Callable[[str], None], end_of_load: Callable[[], None] = lambda: None
) -> Report:
    """Play until the time is over, then drain and compare. AssertionError when events do not flow again in time.

    After `end_of_load` it only waits for runs whose processes were killed, a minute and more.
    """
    report, begin = Report(plan.seed), time.monotonic()
    feed, operator = Feed(world.plant.environment, world.place, RATE), Operator(world, plan.seed, plan.tasks)
    clients = Clients(world, plan.seed, plan.clients)
    clients.prepare()
    writers, standing = OpenTransactions(world, plan.seed, plan.longest_open), Standing(world)
    with (
        background(feed.play),
        background(operator.work, 2 * PATIENCE),
        background(writers.work, 2 * FLOW_SECONDS),
        background(standing.work),
        background(clients.work, 2 * PATIENCE),
    ):
        try:
            _disturb(world, plan, begin + plan.minutes * 60, report, tell)
        finally:
            world.heal()
    report.seconds = time.monotonic() - begin
    report.lines, report.interruptions = feed.lines, feed.interruptions
    report.open_rows, report.standing = writers.committed, sorted(standing.found)
    report.operations, report.impossible = len(clients.writes) + len(clients.reads), clients.violations()
    report.fresh_reads = sum(read.is_fresh for read in clients.reads)
    report.answers, report.slow_answers = operator.answers, operator.slow
    _judge(world, report, end_of_load)
    return report


def _disturb(world: World, plan: Plan, end: float, report: Report, tell: Callable[[str], None]) -> None:
    dice, weights = random.Random(plan.seed), [fault.weight for fault in plan.kinds]
    number = 0
    while time.monotonic() < end:
        faults = dice.choices(plan.kinds, weights, k=2 if dice.random() < TWO_AT_ONCE else 1)
        lasting = min(plan.longest, max(dice.uniform(*fault.seconds) for fault in faults))
        number += 1
        world.is_calm = False
        for fault in faults:
            report.faults[fault.name] += 1
            fault.inject(world, dice)
        world.pause(lasting)
        world.heal()
        seconds = world.await_flow(f"probe {report.seed} {number}")
        world.is_calm = True
        name = faults[0].name if len(faults) == 1 else "two at once"
        report.recoveries[name].append(seconds)
        what = " + ".join(fault.name for fault in faults)
        tell(f"{number:4d}  {what:<45} {lasting:5.1f} s, recovered in {seconds:5.1f} s")
        world.pause(dice.uniform(0, PAUSE_SECONDS))


def _judge(world: World, report: Report, end_of_load: Callable[[], None]) -> None:
    report.drain_seconds = world.plant.drain(DRAIN_SECONDS)
    report.violations = world.plant.violations()
    with world.plant.sql() as sql:
        events = captured(sql)
        report.dead_letters = [
            f"dead letter: {reason}" for reason in sql.column("SELECT reason FROM dead_letters WHERE closed_at IS NULL")
        ]
        end_of_load()
        own = "FROM task_runs WHERE task <> 'apply_catalog_events'"
        unended = f"SELECT task, state, started_at::text {own} AND state IN ('STARTED', 'RETRY')"
        try:
            world.plant.wait_until(lambda: not sql.all(unended), RUNS_SECONDS, "all runs end")
        except AssertionError as late:
            raise AssertionError(f"these runs do not end: {sql.all(unended)}") from late
        report.called_wrong = sql.column(CALLED_WRONG)
        report.audited = sql.one("SELECT coalesce(sum(checked), 0)::bigint FROM audit_minutes")
        report.runs.update(sql.column(f"SELECT task || ' ' || state {own}"))
        report.failures = sql.column(f"SELECT task || ': ' || error {own} AND state = 'FAILURE'")
    times = logged(world.rabbitmq.url)
    report.events, report.lost = len(events), len(events - set(times))
    report.repeated = sum(times[event] > 1 for event in events)
