"""Beat's scheduler without a file: when each task was due last stands in the ledger.

Any number of beats may run: the ledger takes each due instant once. A due run stays due until the broker has it,
however long a server is away; of several that an entry has missed, the last one runs. A clock that was set is not
believed.
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from celery.beat import Scheduler, SchedulingError
from celery.schedules import crontab

from backend.app.errors import Away
from backend.app.health import pulse, watchdog
from backend.app.ledger import ledger

log = logging.getLogger(__name__)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST: Final = timedelta(days=366)  # a crontab that is not due for longer has no instant
RETRY_SECONDS: Final = 2.0  # between two attempts to queue a run
TELL_EVERY: Final = 30  # attempts
CLOCK_SECONDS: Final = 1.0  # by how much a clock may differ from what has passed since the last look


@dataclass
class Due:
    """A run that is due and that the broker does not have yet."""

    entry: Any  # Celery's
    instant: datetime
    task_id: str = field(default_factory=lambda: str(uuid4()))
    attempts: int = 0
    not_before: float = 0.0  # monotonic seconds, of the next attempt

    def dated(self) -> Any:
        """The entry with its due instant, by which the ledger knows it from another beat's."""
        dated = copy.copy(self.entry)
        headers = (dated.options or {}).get("headers") or {}
        dated.options = {
            **(dated.options or {}),
            "headers": {**headers, "scheduled_for": self.instant.isoformat()},
            "task_id": self.task_id,
        }
        return dated


class Clock:
    """The wall clock beside one that nobody sets."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def was_set(self) -> bool:
        """Whether it was set since the last look."""
        offset = time.time() - time.monotonic()
        moved, self._offset = abs(offset - self._offset), offset
        return moved > CLOCK_SECONDS


class LedgerScheduler(Scheduler):
    """Reads at its start when each entry ran last, and keeps what is due until it is queued; the rest is Celery's."""

    producer: Any = None  # a run goes through the pool, which replaces a connection that has ended

    def setup_schedule(self) -> None:
        """Take the configured entries, with the ledger's memory of their last due instants."""
        self._unqueued: dict[str, Due] = {}  # by entry
        self._remembers, self._clock = False, Clock()
        self.install_default_entries({})
        self.merge_inplace(self.app.conf.beat_schedule)
        self._remember()

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Queue a due entry, or keep it. It takes the place of an earlier run that could not be queued."""
        self._unqueued.pop(entry.name, None)
        self._queue(Due(entry, due_instant(entry.schedule, datetime.now(UTC))))

    def tick(self, *arguments: Any, **options: Any) -> float:
        """As Celery's, with a sign of life, and with what is still to be queued."""
        watchdog.move("beat")
        pulse.touch()
        if self._clock.was_set():
            self._forget_future()
        if not self._remembers:
            self._remember()
        for due in list(self._unqueued.values()):
            if time.monotonic() >= due.not_before:
                self._queue(due)
        pause = float(super().tick(*arguments, **options))
        return min(pause, RETRY_SECONDS) if self._unqueued or not self._remembers else pause

    @property
    def info(self) -> str:
        """Shown when beat starts."""
        return "    . schedule -> the ledger, table task_runs"

    def _remember(self) -> None:
        try:
            last_due = ledger.last_due()
        except Away as failure:
            log.warning("beat does not know yet when each task was due last: %s", failure)
            return
        for entry in self.schedule.values():
            entry.last_run_at = last_due.get(entry.task or "") or entry.last_run_at
        self._remembers, self._heap = True, None

    def _forget_future(self) -> None:
        """Nothing has run later than now, and what is due next is reckoned anew."""
        now = datetime.now(UTC)
        for entry in self.schedule.values():
            entry.last_run_at = min(entry.last_run_at or now, now)
        self._heap = None
        log.warning("the clock was set: it is %s now", now.isoformat(timespec="seconds"))

    def _queue(self, due: Due) -> None:
        watchdog.move("beat")
        pulse.touch()
        log.info("Sending due task %s (%s)", due.entry.name, due.entry.task)
        try:
            self.apply_async(due.dated(), producer=None, advance=False)
        except SchedulingError as failure:
            self._keep(due, failure)
        else:
            self._unqueued.pop(due.entry.name, None)

    def _keep(self, due: Due, failure: Exception) -> None:
        due.attempts += 1
        due.not_before = time.monotonic() + RETRY_SECONDS
        self._unqueued[due.entry.name] = due
        level = logging.INFO if due.attempts == 1 else logging.ERROR  # another beat may be about to queue it
        if due.attempts <= 2 or due.attempts % TELL_EVERY == 0:
            log.log(level, "due at %s and not queued, attempt %d: %s", due.instant, due.attempts, failure)


def due_instant(timing: Any, now: datetime) -> datetime:
    """The last instant up to now at which a Celery schedule was due: the same for every beat, however late it asks."""
    if not isinstance(timing, crontab):
        since: timedelta = (now - EPOCH) // timing.run_every * timing.run_every
        return EPOCH + since
    cron: Any = timing
    instant: datetime = now.astimezone(cron.tz).replace(second=0, microsecond=0)
    while not _matches(cron, instant):
        instant -= timedelta(minutes=1)
        if now - instant > LONGEST:
            return now.replace(second=0, microsecond=0)
    return instant.astimezone(UTC)


def _matches(cron: Any, instant: datetime) -> bool:
    return (
        instant.minute in cron.minute
        and instant.hour in cron.hour
        and instant.isoweekday() % 7 in cron.day_of_week
        and instant.day in cron.day_of_month
        and instant.month in cron.month_of_year
    )
