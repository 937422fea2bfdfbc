"""The one judgement of health: signs in, what is wrong out. Nothing else decides what is well.

A judge remembers how long something has stood, so one of them looks again and again: a process that runs, and even
answers, may have stopped to work. Each stage has a mark that moves while it works (the first row of the outbox, the
newest batch of events); a stage that has work and whose mark stands still has stalled, whatever the reason.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from backend.app.beat.schedule import ENTRIES
from backend.app.beat.scheduler import due_instant
from backend.app.catalog import definition
from backend.app.database.schema import needed
from backend.app.health.answer import Answer
from backend.app.health.inspector import Waiting
from backend.app.health.kinds import KINDS, PARTS
from backend.app.health.reach import Reach
from backend.app.health.signs import FIRST_CANARY_SECONDS, OBSERVED_SECONDS, Signs, StoredSigns
from backend.app.settings import settings
from events import times

State = Literal["well", "bad", "unknown"]
MISSED_GRACE: Final = timedelta(seconds=90)  # beat wakes every few seconds, and may start anew meanwhile
CANARY_GRACE_SECONDS: Final = 8.0  # beyond the canary's own round: one that takes longer is late indeed
HELD_SECONDS: Final = 3.0  # what is over sooner is no incident
FAILED: Final = ("FAILURE", "EXPIRED", "REVOKED")


@dataclass
class Stage:
    """What one stage looked like when its mark moved last."""

    mark: object = None
    since: float | None = None  # monotonic seconds; None while there is no work

    def seconds_still(self, has_work: bool, mark: object, now: float) -> float:
        """How long it has had work and not moved."""
        if not has_work:
            self.since = None
        elif self.since is None or mark != self.mark:
            self.since = now
        self.mark = mark
        return 0.0 if self.since is None else now - self.since


@dataclass(frozen=True)
class Wrong:
    """One thing that is wrong."""

    kind: str
    subject: str = ""  # which one, where there are several of a kind
    values: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0  # that it has lasted before it was seen

    def since(self, at: datetime) -> datetime:
        """When it began."""
        return at - timedelta(seconds=self.seconds)

    @property
    def effect(self) -> str:
        """What it means, as a sentence."""
        return KINDS[self.kind].sentence(self.values, self.seconds)


@dataclass(frozen=True)
class Verdict:
    """What is wrong, and of which parts nobody can say anything now."""

    wrong: tuple[Wrong, ...]
    unknown: frozenset[str]  # names of parts

    def state(self, part: str) -> State:
        """Bad where something is known to be wrong, else unknown where nobody could say."""
        if any(KINDS[one.kind].part == part for one in self.wrong):
            return "bad"
        return "unknown" if part in self.unknown else "well"


@dataclass
class Judge:
    """Looks again and again."""

    patience: float | None = None  # seconds that something may stand; None: STALL_SECONDS
    _stages: dict[str, Stage] = field(default_factory=dict)

    def judge(self, signs: Signs, now: float | None = None) -> Verdict:
        """What is wrong, at monotonic second `now`."""
        now = time.monotonic() if now is None else now
        stored = readable(signs)
        wrong = (
            *_database(signs),
            *self._reads(signs, now),
            *self._log(signs, stored, now),
            *_broker(signs),
            *self._relay(signs, stored, now),
            *self._worker(signs, stored, now),
        )
        if stored:
            freshness = self._freshness(signs, stored, now)
            wrong = (*wrong, *_capture(stored), *freshness, *_caches(stored), *_schedule(stored))
        return Verdict(wrong, frozenset(_unknown(signs, stored)))

    def _still(self, stage: str, has_work: bool, mark: object, now: float) -> float:
        """Seconds that the stage stands, once they are too many, else 0."""
        seconds = self._stages.setdefault(stage, Stage()).seconds_still(has_work, mark, now)
        return seconds if seconds >= self._patience else 0.0

    @property
    def _patience(self) -> float:
        return settings().stall_seconds if self.patience is None else self.patience

    def seconds_until_overdue(self, now: float | None = None) -> float:
        """Until the first of what stands has stood too long; infinite where nothing is about to."""
        now = time.monotonic() if now is None else now
        left = (stage.since + self._patience - now for stage in self._stages.values() if stage.since is not None)
        return min((seconds for seconds in left if seconds > 0), default=math.inf)

    def _reads(self, signs: Signs, now: float) -> Iterator[Wrong]:
        seen, bound = signs.replica.value, settings().read_lag_seconds
        behind = (seen and seen.behind_seconds) or 0.0
        late = self._still("replica_behind", behind > bound, None, now)
        if signs.replica.failure and not signs.stored.failure:  # asking it begins at the primary
            yield Wrong("replica_away", values={"failure": signs.replica.failure})
        elif seen and seen.follows is False:
            yield Wrong("replica_detached")
        elif late:
            yield Wrong("replica_behind", "", {"behind": round(behind), "bound": bound}, late)

    def _log(self, signs: Signs, stored: StoredSigns | None, now: float) -> Iterator[Wrong]:
        told = signs.log or Answer[Reach]()
        is_to_blame = bool(told.failure and stored and not signs.carried.failure)  # and no server that is away
        if unreadable := self._still("log_unreadable", is_to_blame, None, now):
            yield Wrong("log_unreadable", "", {"failure": told.failure}, unreadable)
        if told.value and told.value.short_since is not None:
            values = {"since": times.text(told.value.short_since), "days": settings().event_log_days}
            yield Wrong("log_short", values=values)

    def _relay(self, signs: Signs, stored: StoredSigns | None, now: float) -> Iterator[Wrong]:
        if stored is None:
            return
        can_work = (
            not signs.carried.failure
        )  # without a broker it neither leads nor publishes: it has its time afterwards
        first = stored.outbox_first
        if absent := self._still("relay_absent", can_work and not stored.relay_leads, None, now):
            yield Wrong("relay_absent", seconds=absent)
        if stands := self._still("relay_stands", can_work and first is not None, first, now):
            yield Wrong("relay_stands", seconds=stands)

    def _worker(self, signs: Signs, stored: StoredSigns | None, now: float) -> Iterator[Wrong]:
        carried = signs.carried.value
        if carried is not None and not carried.exists:
            yield Wrong("queue_missing")
        elif carried is not None:
            mark = stored and stored.last_batch
            absent = self._still("worker_absent", not carried.consumers, None, now)
            stands = self._still("worker_stands", carried.messages > 0, mark, now)
            silent = self._still("worker_silent", carried.silent > 0, carried.silent, now)
            yield from _worker_wrong(carried, absent, stands if stored else 0.0, silent)
        if stored is not None:
            seconds = self._still("wide_patch_stands", stored.wide_companies > 0, stored.wide_mark, now)
            if seconds:
                yield Wrong("wide_patch_stands", "", {"companies": stored.wide_companies}, seconds)

    def _freshness(self, signs: Signs, stored: StoredSigns, now: float) -> Iterator[Wrong]:
        every, seconds = settings().canary_seconds, stored.canary_seconds
        is_awaited = bool(every) and _is_observed(stored)
        first = self._still("canary_absent", is_awaited and seconds is None and _may_fly(signs), None, now)
        is_late = _is_late(stored) and stored.is_observed_for_long
        if is_awaited and (is_late or first > every + FIRST_CANARY_SECONDS):
            yield Wrong("canary_absent", seconds=seconds or first)
        if stored.p99_ms is not None and stored.p99_ms > settings().freshness_target_ms:
            yield Wrong("freshness_over_target", values={"p99_ms": round(stored.p99_ms)})


def readable(signs: Signs) -> StoredSigns | None:
    """The database's part, unless its schema is too old to be read."""
    stored = signs.stored.value
    return stored if stored and not stored.is_old else None


def _database(signs: Signs) -> Iterator[Wrong]:
    if (stored := signs.stored.value) is None:
        yield Wrong("database_away", values={"failure": signs.stored.failure or "no answer"})
    elif stored.is_old:
        yield Wrong("schema_old", values={"version": stored.version or "none", "wanted": needed().revision})


def _capture(stored: StoredSigns) -> Iterator[Wrong]:
    for table in stored.gaps.missing_tables:
        yield Wrong("table_missing", table, {"table": table})
    for column in stored.gaps.columns:
        yield Wrong("column_missing", f"{column.table}.{column.column}", vars(column))
    for silent in stored.gaps.tables:
        state = "are switched off" if silent.is_off else "lack"
        yield Wrong("table_silent", silent.table, {"table": silent.table, "state": state})
    for passed in stored.passed:
        yield Wrong("table_passed", passed.table, vars(passed))
    if stored.gaps.is_other_definition:
        yield Wrong("definition_differs")


def _broker(signs: Signs) -> Iterator[Wrong]:
    if signs.carried.failure:
        yield Wrong("broker_away", values={"failure": signs.carried.failure})
    elif (carried := signs.carried.value) and carried.is_blocked:
        yield Wrong("broker_alarm")


def _worker_wrong(carried: Waiting, absent: float, stands: float, silent: float) -> Iterator[Wrong]:
    """Of what stands the nearest cause alone."""
    if absent:
        yield Wrong("worker_absent", seconds=absent)
    if silent:
        yield Wrong("worker_silent", "", {"silent": carried.silent}, silent)
    elif held := max(carried.because, key=_seconds_held, default=None):
        if (seconds := _seconds_held(held)) >= HELD_SECONDS:
            yield Wrong("events_held", "", {"sentence": str(held["sentence"])}, seconds)
    elif stands:
        yield Wrong("worker_stands", "", {"messages": carried.messages}, stands)


def _seconds_held(reason: Mapping[str, Any]) -> float:
    return max(0.0, time.time() - float(reason["since"]))


def _caches(stored: StoredSigns) -> Iterator[Wrong]:
    if stored.rows_wrong:
        yield Wrong("rows_wrong", values={"rows": stored.rows_wrong})
    if stored.letters:
        yield Wrong("dead_letters_open", values={"letters": stored.letters})


def _schedule(stored: StoredSigns) -> Iterator[Wrong]:
    now = datetime.now(UTC)
    entries = {entry.task: entry for entry in ENTRIES}
    for run in stored.scheduled:
        if run.scheduled_for is None:
            continue
        due = due_instant(entries[run.task].schedule, now - MISSED_GRACE)
        if run.scheduled_for < due:
            yield Wrong("run_missed", run.task, {"task": run.task}, (now - due).total_seconds())
        if run.state in FAILED:
            yield Wrong("run_failed", run.task, {"task": run.task, "state": run.state, "error": run.error or ""})


def _may_fly(signs: Signs) -> bool:
    """Whether canaries are sent: all workers know them."""
    return settings().in_process or bool(signs.carried.value and signs.carried.value.knows_canaries)


def _is_observed(stored: StoredSigns) -> bool:
    return stored.observed_seconds is not None and stored.observed_seconds < OBSERVED_SECONDS


def _is_late(stored: StoredSigns) -> bool:
    """Whether no canary came for too long; while nobody observed, none was sent."""
    return (stored.canary_seconds or 0.0) > settings().canary_seconds + CANARY_GRACE_SECONDS


def _unknown(signs: Signs, stored: StoredSigns | None) -> Iterator[str]:
    """Parts of which the signs say nothing."""
    carried = signs.carried.value
    if settings().database_read_url and (signs.replica.value is None or signs.replica.value.behind_seconds is None):
        yield "reads"
    if stored is None:
        yield from set(PARTS) - {"database", "broker", "worker"}
    elif not _is_observed(stored):
        yield from ("freshness", "caches", "observer", "log")
        if definition.current().is_adopted:  # the observer finds what comes past capture
            yield "capture"
    elif settings().canary_seconds and (stored.canary_seconds is None or _is_late(stored)):
        yield "freshness"
    if stored and not any(run.scheduled_for for run in stored.scheduled):
        yield "schedule"
    if signs.log and (signs.log.value is None or signs.log.value.source is None):
        yield "log"
    if signs.carried.failure or (carried and not carried.is_known) or stored is None:
        yield "worker"
