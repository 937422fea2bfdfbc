"""A campaign: everything hostile at once, beside good events that must not notice it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from events import topology
from events.contract import Event
from events.stream import StreamLog
from tests.background import background
from tests.faults.captured import captured
from tests.faults.feed import Feed
from tests.faults.operator import PATIENCE, Operator
from tests.hostile import messages, rows
from tests.hostile.disturbances import DISTURBANCES, ENTRIES, QUEUED, SCHEDULE_SECONDS, Disturber
from tests.hostile.memory import Memory
from tests.hostile.probes import NONE, PROBE_SECONDS, Freshness, probed
from tests.hostile.requests import PATIENCE as ASKER_PATIENCE
from tests.hostile.requests import Asker
from tests.hostile.siege import Siege
from tests.hostile.tally import Tally
from tests.waiting import until

ATTACKS: Final = ("messages", "requests", "rows")
KINDS: Final = (*ATTACKS, *DISTURBANCES)
RATE: Final = 100  # lines of the feed a second
MESSAGE_PAUSE: Final = 0.02  # seconds between two hostile messages
ROW_PAUSE: Final = 0.3
USUAL_ROWS: Final = 20_000  # of one statement that a system is used to
DRAIN_SECONDS: Final = 180.0
CATCHING_UP_SECONDS: Final = 3.0  # after the first change has come through again, with all that waited behind it
LETTER_SECONDS: Final = 60.0  # until the next dead letter
LETTERS: Final = "SELECT count(*) FROM dead_letters"
UNTOLD: Final = (messages.CONTROL, topology.LOG_NAME)  # queues whose messages become no dead letters
BULK: Final = """
    WITH company AS (INSERT INTO companies (name, city_id) SELECT 'bulk', min(id) FROM cities RETURNING id)
    INSERT INTO products (name, company_id) SELECT 'bulk', id FROM company, generate_series(1, %s)"""


@dataclass(frozen=True)
class Plan:
    """What is to happen."""

    seed: int
    seconds: float  # of hostility
    usual_seconds: float = 20.0  # before it, in which is measured what is usual
    kinds: tuple[str, ...] = KINDS


@dataclass
class Report:
    """What came of it."""

    plan: Plan
    tally: Tally = field(default_factory=Tally)
    usual_probes: Freshness = NONE  # before it was hostile
    probes: Freshness = NONE
    calm_probes: Freshness = NONE  # those that touch no time in which servers or parts were away by our doing
    later_probes: Freshness = NONE  # of these, those that were not written within CATCHING_UP_SECONDS of such a time
    lost_probes: int = 0
    usual: dict[str, int] = field(default_factory=dict)  # bytes at most, by process
    most: dict[str, int] = field(default_factory=dict)
    letters: Counter[str] = field(default_factory=Counter)  # dead letters by kind
    events: int = 0  # captured
    drain_seconds: float = 0.0
    answers: Counter[int] = field(default_factory=Counter)  # of the API to those who mean well, by status
    kills: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


def run(siege: Siege, plan: Plan) -> Report:
    """Measure what is usual, play until the time is over, drain, judge."""
    report, memory = Report(plan), Memory(siege)
    feed, operator = Feed(siege.plant.environment, siege.place, RATE), Operator(siege, plan.seed, tasks=False)
    attack = _Attack(siege, plan, report.tally)
    with background(feed.play), background(operator.work, 2 * PATIENCE), background(memory.work):
        with probed(siege.plant.sql) as usual:
            report.usual = _usual(siege, memory, plan.usual_seconds)
        with probed(siege.plant.sql) as probes, attack:
            siege.pause(plan.seconds)
        report.most = memory.look()
    report.answers, report.kills, report.starts = operator.answers, siege.kills, siege.starts
    report.usual_probes, report.probes = usual.freshness(), probes.freshness()
    report.calm_probes, report.lost_probes = probes.freshness(attack.spans), len(probes.waiting)
    report.later_probes = probes.freshness([(begin, end + CATCHING_UP_SECONDS) for begin, end in attack.spans])
    _judge(siege, report, attack)
    return report


def _usual(siege: Siege, memory: Memory, seconds: float) -> dict[str, int]:
    """The most memory of each process under a usual load: the feed, a large statement, the schedule."""
    siege.pause(seconds / 2)
    with siege.plant.sql() as sql:
        sql.run(BULK, [USUAL_ROWS])
    siege.pause(seconds / 2)
    return memory.look()


class _Attack:
    """All that is hostile, while it is entered."""

    def __init__(self, siege: Siege, plan: Plan, tally: Tally) -> None:
        self._stack = ExitStack()
        self._siege, self._plan, self._tally = siege, plan, tally
        disturbances = tuple(kind for kind in DISTURBANCES if kind in plan.kinds)
        self._disturber = Disturber(siege, plan.seed, tally, disturbances)
        self._sender = Sender(siege.rabbitmq.url, plan.seed, tally)
        self.subjects: dict[str, str] = {}  # of hostile rows, with their kind
        self.sent = self._sender.taken
        self.spans = self._disturber.spans

    def __enter__(self) -> None:
        kinds, seed, tally = self._plan.kinds, self._plan.seed, self._tally
        if "messages" in kinds:
            self._begin(self._sender.work, 30)
        if "requests" in kinds:
            self._begin(Asker(self._siege.plant.port, seed, tally).work, ASKER_PATIENCE)
        if "rows" in kinds:
            plain = self._stack.enter_context(self._siege.plant.sql())
            writer = rows.Writer(plain, seed, ROW_PAUSE, tally)
            self.subjects = writer.kinds
            self._begin(writer.work, 60)
        if self._disturber.kinds:
            self._begin(self._disturber.work, 180)

    def _begin(self, work: Callable[[threading.Event], None], patience: float) -> None:
        self._stack.enter_context(background(work, patience))

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Sender:
    """Sends hostile messages, again and again."""

    def __init__(self, broker: str, seed: int, tally: Tally) -> None:
        self.taken: list[messages.Message] = []  # by the broker
        self._broker, self._dice, self._tally = broker, random.Random(seed), tally
        for name in messages.BOMBS:
            messages.bomb(name)  # they take long to make

    def work(self, stop: threading.Event) -> None:
        """Until stopped."""
        while not stop.is_set():
            for message in messages.messages(self._dice):
                if stop.wait(MESSAGE_PAUSE):
                    return
                taken = messages.publish(self._broker, [message])
                self.taken += [message._replace(body=b"") for message in taken]
                self._tally.note(f"message: {message.queue}", "taken" if taken else "refused by the broker")


# Judgement


def _judge(siege: Siege, report: Report, attack: _Attack) -> None:
    for what in _complaints(siege, report, attack):
        report.complaints.append(what)
    report.complaints += report.tally.complaints


def _complaints(siege: Siege, report: Report, attack: _Attack) -> Iterator[str]:
    try:
        report.drain_seconds = siege.plant.drain(DRAIN_SECONDS)
    except AssertionError as failure:
        yield str(failure).partition("\n")[0]
    yield from siege.plant.violations()
    yield from siege.restarted_by_itself()
    if report.lost_probes:
        yield f"{report.lost_probes} good changes did not come through within {PROBE_SECONDS:g} s"
    yield from (f"the API answered {n} good requests with {code}" for code, n in report.answers.items() if _bad(code))
    with siege.plant.sql() as sql:
        yield from _schedule(siege, sql)
        yield from _runs(sql)
        yield from _untold(sql, attack.sent)
        report.letters.update(sql.column("SELECT kind FROM dead_letters"))
        yield from _lost(siege, report, captured(sql), attack.subjects)


def _bad(status: int) -> bool:
    return status >= 500 and status != 503


def _schedule(siege: Siege, sql: Any) -> Iterator[str]:
    """The schedule goes on: all entries of its next instant are queued."""
    now = time.time()
    try:
        siege.plant.wait_until(lambda: sql.one(QUEUED, [now]) == ENTRIES, SCHEDULE_SECONDS + siege.due_seconds)
    except AssertionError:
        yield "the schedule does not go on"


def _runs(sql: Any) -> Iterator[str]:
    """Rebuilds found no drift: nothing was wrong but what was on its way."""
    drift = "(result ->> 'drift')::bigint"
    for task, rows_wrong in sql.all(f"SELECT task, sum({drift}) FROM task_runs WHERE {drift} > 0 GROUP BY task"):
        yield f"{task} found {rows_wrong} rows that had drifted"


def _untold(sql: Any, sent: list[messages.Message]) -> Iterator[str]:
    """Each wrong message is a dead letter; one that was delivered twice may be two."""
    wrong = sum(message.queue not in UNTOLD and messages.is_wrong(message) for message in sent)
    letters, before = sql.one(LETTERS), -1
    while before < letters < wrong:
        before = letters
        with suppress(AssertionError):  # no more of them come
            until(lambda seen=letters: sql.one(LETTERS) > seen, LETTER_SECONDS)  # type: ignore[misc]
        letters = sql.one(LETTERS)
    if letters < wrong:
        told = Counter(sql.column("SELECT headers ->> 'kind' FROM dead_letters"))
        kinds = Counter(message.kind for message in sent if message.queue not in UNTOLD and messages.is_wrong(message))
        fewer = {kind: f"{told[kind]} of {number}" for kind, number in kinds.items() if told[kind] < number}
        yield f"{wrong} wrong messages were taken, and only {letters} dead letters tell of them: {fewer}"


def _lost(siege: Siege, report: Report, events: set[str], subjects: dict[str, str]) -> Iterator[str]:
    """Events that were captured and are not in the log; how those of hostile rows travelled."""
    found: Counter[str] = Counter()
    with closing(StreamLog(siege.rabbitmq.url)) as log:
        for logged in log.read("first", log.new_marker(), mark=True):
            for event in logged.events:
                if isinstance(event, Event):
                    found[event.id] += 1
                    if kind := subjects.get(event.subject):
                        report.tally.note(kind, "travelled slim" if event.data is None else "travelled")
    report.events, lost = len(events), len(events - set(found))
    if lost:
        yield f"{lost} events are lost"
