"""A batch of events: one patch for its distinct keys, and nothing in it that blocks its neighbours.

What cannot be read, and keys that fail again and again while others work, go to the dead letters with the reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from backend.app.caches.apply import Plan, plan
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import land
from backend.app.dead_letters import letters as dead_letters
from backend.app.dead_letters.letters import DeadLetter, bare
from backend.app.errors import CitycacheError, EveryKeyFails, sentence
from backend.app.ledger import ledger
from backend.app.settings import settings
from backend.app.tasks.roster import APPLY_EVENTS
from backend.app.telemetry import latency, metrics, tracing
from backend.app.worker.breaker import breaker
from backend.app.worker.patching import Done, Patching
from events import times
from events.contract import Hint

log = logging.getLogger(__name__)
SAMPLED_KEYS: Final = 5  # of a batch, named in its run


@dataclass(frozen=True)
class Batch:
    """What the consumer step hands over."""

    hints: Sequence[Hint]
    unreadable: Sequence[DeadLetter] = ()
    received_at: float = field(default_factory=time.time)  # seconds since the epoch


class _Applying:
    """A batch on its way into the caches and the ledger."""

    def __init__(self, batch: Batch, task_id: str) -> None:
        self._batch, self._task_id = batch, task_id
        self._started_at = time.time()
        self._measured = ([0] * (len(latency.BOUNDS) + 1), 0.0)
        self._plan = Plan(())

    def apply(self) -> dict[str, Any]:
        began = time.perf_counter()
        self._plan = planned = _planned(self._batch.hints)
        patching = Patching(planned, cause_of(self._batch.hints, self._task_id), self._task_id, self._batch.hints)
        with tracing.span("patch", keys=sum(map(len, planned.parts))):
            done = patching.run(self._record)
        self._count(done, time.perf_counter() - began)
        return self._numbers(done)

    def _record(self, connection: Connection, done: Done) -> None:
        """Land canaries, bury letters, and write the run into the ledger, with the last part of the patch."""
        if canaries := {hint.id for hint in self._batch.hints if hint.noun == "canary" and hint.id is not None}:
            land(connection, canaries)
        letters = [*self._batch.unreadable, *done.buried]
        dead_letters.bury(connection, list(map(bare, letters)) if done.is_spoiled else letters, self._task_id)
        self._measured = latency.measured([hint.time for hint in self._batch.hints])
        told = self._told(done)
        ledger.insert_finished(
            connection, self._task_id, APPLY_EVENTS.name, "event", told, self._batch.received_at, self._started_at
        )

    def _told(self, done: Done) -> dict[str, Any]:
        hints = self._batch.hints
        written = [hint.time for hint in hints]
        ages = {"oldest_event": times.earliest(written), "newest_event": times.latest(written)}
        numbers = {"events": len(hints), "unreadable": len(self._batch.unreadable)} | ages | self._numbers(done)
        return numbers | {"latency": self._measured[0], "sample": _sample(hints)}

    def _numbers(self, done: Done) -> dict[str, Any]:
        numbers: dict[str, Any] = {"keys": done.keys, "patched": done.patched, "wide": list(self._plan.wide)}
        numbers |= {"everything": True} if self._plan.everything else {}
        numbers |= {"sets": len(self._plan.watched)} if self._plan.watched else {}
        return numbers | ({"buried": len(done.buried)} if done.buried else {})

    def _count(self, done: Done, seconds: float) -> None:
        metrics.BATCH_SECONDS.observe(seconds)
        metrics.BATCH_KEYS.inc(done.keys)
        metrics.BATCH_ROWS.inc(done.patched)
        metrics.COMMIT_TO_CACHE.add(*self._measured)
        for letter in (*self._batch.unreadable, *done.buried):
            metrics.BURIED.labels(letter.kind).inc()


def apply_batch(batch: Batch, task_id: str) -> dict[str, Any]:
    """Patch the keys of a batch and record the run. Raises Away: then nothing may be acknowledged."""
    return _Applying(batch, task_id).apply()


def apply_apart(hints: Sequence[Hint], task_id: str) -> Done:
    """Patch keys of a chunk that failed apart from each other, and bury those that fail alone. Raises Away."""

    def bury(connection: Connection, done: Done) -> None:
        dead_letters.bury(connection, done.buried, task_id)

    planned = Plan(keys_of(hints).split(2))
    done = Patching(planned, cause_of(hints, task_id), task_id, hints).run(bury)
    metrics.BURIED.labels("failed").inc(len(done.buried))
    return done


def _planned(hints: Sequence[Hint]) -> Plan:
    """A plan is read from the catalog for all keys at once: where that fails, it is not for one of them."""
    try:
        asked = Hinted.of(hints)
        return plan(asked.keys, asked.is_truncated, breaker.most(2 * settings().batch_keys), asked.changes)
    except CitycacheError:
        raise
    except Exception as failure:
        raise EveryKeyFails(f"the catalog cannot be read: {sentence(failure)}") from failure


def _sample(hints: Sequence[Hint]) -> list[str]:
    """A few of the keys, for the auditor to look at."""
    step = max(1, len(hints) // SAMPLED_KEYS)
    return [f"{hint.noun}/{hint.id}" for hint in hints[::step] if hint.id is not None][:SAMPLED_KEYS]


@dataclass(frozen=True)
class Hinted:
    """What hints ask for, together."""

    keys: Keys
    is_truncated: bool  # a whole table
    changes: Sequence[int]  # of watched rows

    @classmethod
    def of(cls, hints: Sequence[Hint]) -> Hinted:
        """Of these."""
        changes = {hint.id for hint in hints if hint.noun == "watched" and hint.id is not None}
        return cls(keys_of(hints), any(hint.id is None for hint in hints), sorted(changes))


def keys_of(hints: Sequence[Hint]) -> Keys:
    """The distinct keys, ascending."""
    ids: dict[str, set[int]] = {"product": set(), "company": set(), "city": set()}
    for hint in hints:
        if hint.id is not None and hint.noun in ids:
            ids[hint.noun].add(hint.id)
    return Keys(sorted(ids["product"]), sorted(ids["company"]), sorted(ids["city"]))


def cause_of(hints: Sequence[Hint], task_id: str) -> Cause:
    """Why: the last event of each key."""
    events = {f"{hint.noun}/{hint.id}": hint.event_id for hint in hints}
    return Cause(APPLY_EVENTS.name, task_id, events, traces_of(hints))


def traces_of(hints: Sequence[Hint]) -> list[str]:
    """The distinct trace contexts of the events, in their order."""
    return list(dict.fromkeys(hint.traceparent for hint in hints if hint.traceparent))
