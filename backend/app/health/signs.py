"""The signs by which health is judged, read in one look: what the database knows, and what broker and workers say."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from backend.app import db
from backend.app.beat.schedule import ENTRIES
from backend.app.catalog.completeness import Gaps, PassedTable, gaps, passed_tables
from backend.app.database import replica, schema
from backend.app.errors import Away, CitycacheError, sentence
from backend.app.health import inspector, reach
from backend.app.health.answer import Answer
from backend.app.settings import settings
from backend.app.telemetry import latency
from events.outbox import LEADER_LOCK
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_suffix(".sql"))
NO_GAPS: Final = Gaps()
FIRST_CANARY_SECONDS: Final = 15.0  # beyond its own round, of the first: it waits for two turns of the observer
OBSERVED_SECONDS: Final = 20.0  # the observer writes every 5 s; without it nobody looks at canary and rows
THREADS: Final = 6  # those that hang on a server without a word are freed by its connection's own deadline
LOOK_SECONDS: Final = 3.0
REPLY_SECONDS: Final = 0.5  # for workers to say what they hold; one that is well takes milliseconds
Value = TypeVar("Value")


NOT_ASKED: Final = Answer[Any]()


@dataclass(frozen=True)
class Scheduled:
    """The newest scheduled run of a task; None: there never was one."""

    task: str
    scheduled_for: datetime | None
    state: str | None
    error: str | None


@dataclass(frozen=True)
class StoredSigns:
    """The database's part; of a schema that is too old only its version."""

    version: str | None  # of the schema
    is_old: bool = False
    outbox_first: int | None = None  # id of the first row of the outbox
    relay_leads: bool = False
    wide_companies: int = 0  # wide patches that are not done
    wide_mark: str | None = None  # changes while they advance
    last_batch: str | None = None  # the newest batch of events
    letters: int = 0  # open dead letters
    rows_wrong: int = 0  # found by the auditor and not mended
    canary_seconds: float | None = None  # since a canary arrived
    observed_seconds: float | None = None  # since the observer wrote
    is_observed_for_long: bool = True  # without a pause, for as long as a canary may take that comes first after one
    p99_ms: float | None = None  # of the last minute
    scheduled: tuple[Scheduled, ...] = ()
    gaps: Gaps = NO_GAPS  # in what capture sees of adopted tables
    passed: tuple[PassedTable, ...] = ()  # written past capture


@dataclass(frozen=True)
class Signs:
    """One look; `carried` has neither value nor failure where there is no broker, `replica` where there is none."""

    stored: Answer[StoredSigns]
    carried: Answer[inspector.Waiting]
    replica: Answer[replica.ReplicaSigns | None] = NOT_ASKED
    log: Answer[reach.Reach] | None = None  # None: who looks leaves this to the observer


class Looker:
    """Asks the servers side by side; one that does not answer in time counts as away, and is left to itself."""

    def __init__(self, seconds: float = LOOK_SECONDS) -> None:
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="signs")
        self._log, self._log_due = Answer[reach.Reach](), 0.0  # the last answer; monotonic seconds
        self._log_asked: Future[reach.Reach] | None = None

    def look(self) -> Signs:
        """One look, in about as many seconds as were given; what a part's question raises is that part's failure."""
        until = time.monotonic() + self._seconds
        asked, beside = self._threads.submit(stored), self._threads.submit(replica.look)
        behind = None if settings().in_process else self._threads.submit(carried)
        self._ask_log()
        answers = _told(behind, until) if behind else Answer[inspector.Waiting]()
        return Signs(_told(asked, until), answers, _told(beside, until), self._log_told(until))

    def _ask_log(self) -> None:
        """Not within a minute of an answer, and never a second time beside a question that hangs."""
        if self._log_asked is None and time.monotonic() >= self._log_due:
            self._log_asked = self._threads.submit(reach.look)

    def _log_told(self, until: float) -> Answer[reach.Reach]:
        if asked := self._log_asked:
            self._log = _told(asked, until)
            if asked.done():
                self._log_asked = None
                is_known = self._log.value and self._log.value.source
                self._log_due = time.monotonic() + (reach.LOOK_SECONDS if is_known else 0.0)
        return self._log


def _told(asked: Future[Value], until: float) -> Answer[Value]:
    """The answer until this monotonic second, or the first line of why there is none."""
    try:
        return Answer(asked.result(max(0.0, until - time.monotonic())))
    except TimeoutError:
        asked.cancel()
        return Answer(failure="no answer in time")
    except CitycacheError as failure:
        return Answer(failure=sentence(failure))
    except Exception as failure:
        log.exception("a sign of health could not be read")
        return Answer(failure=sentence(failure))


def stored() -> StoredSigns:
    """Ask the database. Raises DatabaseAway."""
    with db.transaction() as connection:
        version = schema.found(connection).revision
        if schema.needed().is_older(version):
            return StoredSigns(version, is_old=True)
        awaited = settings().canary_seconds + FIRST_CANARY_SECONDS
        asked = {"leader_lock": LEADER_LOCK, "awaited": awaited, "observed": OBSERVED_SECONDS}
        row: dict[str, Any] = dict(connection.exec_driver_sql(SQL["stored"], asked).mappings().one())
        counts = latency.total(found[0] for found in connection.exec_driver_sql(SQL["latency"]))
        tasks = [entry.task for entry in ENTRIES]
        runs = tuple(Scheduled(*run) for run in connection.exec_driver_sql(SQL["scheduled"], {"tasks": tasks}))
        found, passed = gaps(connection), passed_tables(connection)
    p99_ms = latency.percentile(counts, 0.99)
    return StoredSigns(version=version, p99_ms=p99_ms, scheduled=runs, gaps=found, passed=passed, **row)


def carried() -> inspector.Waiting:
    """Ask the broker and the workers behind it. Raises BrokerAway."""
    return inspector.waiting(reply_seconds=REPLY_SECONDS, connected=_connected_workers)


def _connected_workers() -> Any:
    try:
        with db.transaction() as connection:
            return connection.exec_driver_sql(inspector.CONNECTED_WORKERS).scalar_one()
    except Away:
        return None
