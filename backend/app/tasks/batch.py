"""A batch of events: one patch for its distinct keys, and nothing in it that blocks its neighbours.

A batch that fails is halved until the culprit stands alone; the rest goes through. What cannot be read, and keys
that fail again and again, go to the dead letters with the reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg2.errors import TransactionRollbackError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from backend.app import db, dead_letters, latency, metrics
from backend.app.caches.apply import Applied, apply
from backend.app.caches.keys import Cause, Keys
from backend.app.dead_letters import DeadLetter
from backend.app.errors import Away
from backend.app.tasks import ledger
from events import times
from events.contract import Hint

log = logging.getLogger(__name__)
TASK: Final = "apply_catalog_events"
SAMPLED_KEYS: Final = 5  # of a batch, named in its run
TRIES_ALONE: Final = 3  # of a key that fails by itself, before it is buried
PAUSES_ALONE: Final = (0.2, 1.0)  # seconds between them


@dataclass(frozen=True)
class Batch:
    """What the consumer step hands over."""

    hints: Sequence[Hint]
    unreadable: Sequence[DeadLetter] = ()
    received_at: float = field(default_factory=time.time)  # seconds since the epoch


def apply_batch(batch: Batch, task_id: str) -> dict[str, Any]:
    """Patch the keys of a batch and record the run. Raises DatabaseAway: then nothing may be acknowledged."""
    started_at, began = time.time(), time.perf_counter()
    measured = ([0] * (len(latency.BOUNDS) + 1), 0.0)
    result: dict[str, Any] = {"events": len(batch.hints), "unreadable": len(batch.unreadable)}
    written = [hint.time for hint in batch.hints]
    result |= {"oldest_event": times.earliest(written), "newest_event": times.latest(written)}

    def record(connection: Connection, buried: Sequence[DeadLetter], numbers: dict[str, Any]) -> None:
        nonlocal measured
        dead_letters.bury(connection, [*batch.unreadable, *buried], task_id)
        measured = latency.measured(written)
        told = result | numbers | {"latency": measured[0], "sample": _sample(batch.hints)}
        ledger.insert_finished(connection, task_id, TASK, "event", told, batch.received_at, started_at)

    try:
        numbers = _apply_whole(batch, task_id, record) if batch.hints else _only_bury(record)
    except Away:
        raise
    except Exception as failure:
        log.warning("a batch of %s events failed and is taken apart: %s", len(batch.hints), failure)
        numbers = _apply_parts(batch, task_id, record)
    _count(batch.unreadable, numbers, measured, time.perf_counter() - began)
    return numbers


def _count(
    unreadable: Sequence[DeadLetter], numbers: dict[str, Any], measured: tuple[list[int], float], seconds: float
) -> None:
    metrics.BATCH_SECONDS.observe(seconds)
    metrics.BATCH_KEYS.inc(numbers["keys"])
    metrics.BATCH_ROWS.inc(numbers.get("patched", 0))
    metrics.COMMIT_TO_CACHE.add(*measured)
    for letter in unreadable:
        metrics.BURIED.labels(letter.kind).inc()


def _sample(hints: Sequence[Hint]) -> list[str]:
    """A few of the keys, for the auditor to look at."""
    step = max(1, len(hints) // SAMPLED_KEYS)
    return [f"{hint.noun}/{hint.id}" for hint in hints[::step] if hint.id is not None][:SAMPLED_KEYS]


def _only_bury(record: Any) -> dict[str, Any]:
    with db.transaction() as connection:
        record(connection, [], {"keys": 0})
    return {"keys": 0, "wide": []}


def _apply_whole(batch: Batch, task_id: str, record: Any) -> dict[str, Any]:
    numbers: dict[str, Any] = {}

    def on_commit(connection: Connection, applied: Applied) -> None:
        numbers.update(keys=applied.keys, patched=applied.patched, wide=list(applied.wide))
        record(connection, [], numbers)

    _apply(batch.hints, task_id, on_commit)
    return numbers


def apply_apart(hints: Sequence[Hint], task_id: str) -> list[Applied]:
    """Patch keys of a failed batch apart from each other, and bury those that fail alone."""
    applied: list[Applied] = []
    buried: list[DeadLetter] = []
    _halve(list(hints), task_id, applied, buried)
    if buried:
        with db.transaction() as connection:
            dead_letters.bury(connection, buried, task_id)
    return applied


def _apply_parts(batch: Batch, task_id: str, record: Any) -> dict[str, Any]:
    """The slow way: halves, and halves of halves, down to the keys that fail."""
    applied: list[Applied] = []
    buried: list[DeadLetter] = []
    _halve(list(batch.hints), task_id, applied, buried)
    numbers = {
        "keys": sum(part.keys for part in applied),
        "patched": sum(part.patched for part in applied),
        "wide": sorted({company for part in applied for company in part.wide}),
        "buried": len(buried),
    }
    with db.transaction() as connection:
        record(connection, buried, numbers)
    return numbers


def _halve(hints: list[Hint], task_id: str, applied: list[Applied], buried: list[DeadLetter]) -> None:
    """Events of one key stay together, so every half has fewer keys than the whole."""
    metrics.BATCH_BISECTIONS.inc()
    of_key: dict[tuple[str, int | None], list[Hint]] = {}
    for hint in hints:
        of_key.setdefault((hint.noun, hint.id), []).append(hint)
    if len(of_key) == 1:
        _alone(hints, task_id, applied, buried)
        return
    groups = list(of_key.values())
    middle = len(groups) // 2
    for half in (groups[:middle], groups[middle:]):
        part = [hint for group in half for hint in group]
        try:
            applied.append(_apply(part, task_id))
        except Away:
            raise
        except Exception:
            _halve(part, task_id, applied, buried)


def _alone(hints: list[Hint], task_id: str, applied: list[Applied], buried: list[DeadLetter]) -> None:
    for attempt in range(TRIES_ALONE):
        try:
            applied.append(_apply(hints, task_id))
            return
        except Away:
            raise
        except Exception as failure:
            if attempt < len(PAUSES_ALONE):
                time.sleep(PAUSES_ALONE[attempt])
            else:
                buried.append(dead_letters.failed(hints[-1], failure, TRIES_ALONE))
                metrics.BURIED.labels("failed").inc()


def _is_rollback(failure: BaseException) -> bool:
    return isinstance(failure, DBAPIError) and isinstance(failure.orig, TransactionRollbackError)


@retry(
    retry=retry_if_exception(_is_rollback),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(multiplier=0.02, max=0.5),
    before_sleep=lambda state: metrics.BATCH_RETRIES.labels("rollback").inc(),
    reraise=True,
)
def _apply(hints: Sequence[Hint], task_id: str, on_commit: Any = None) -> Applied:
    def close(connection: Connection, applied: Applied) -> None:
        dead_letters.close_patched(connection, hints, task_id)
        if on_commit:
            on_commit(connection, applied)

    return apply(keys_of(hints), cause_of(hints, task_id), any(hint.id is None for hint in hints), close)


def keys_of(hints: Sequence[Hint]) -> Keys:
    """The distinct keys, ascending."""
    ids: dict[str, set[int]] = {"product": set(), "company": set(), "city": set()}
    for hint in hints:
        if hint.id is not None:
            ids[hint.noun].add(hint.id)
    return Keys(sorted(ids["product"]), sorted(ids["company"]), sorted(ids["city"]))


def cause_of(hints: Sequence[Hint], task_id: str) -> Cause:
    """Why: the last event of each key."""
    events = {f"{hint.noun}/{hint.id}": hint.event_id for hint in hints}
    return Cause(TASK, task_id, events, traces_of(hints))


def traces_of(hints: Sequence[Hint]) -> list[str]:
    """The distinct trace contexts of the events, in their order."""
    return list(dict.fromkeys(hint.traceparent for hint in hints if hint.traceparent))
