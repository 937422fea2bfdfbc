"""Search over names, ids, external ids, runs and events: a few of each, and never for long.

Every look has a small part of the time. One that does not end in it is named, so that nothing found is never taken for
nothing there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

from backend.app import db
from backend.app.errors import TooLong
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
LIMIT: Final = 6  # of a kind
MOST: Final = 20_000  # rows that are looked through for an event
LOOK_MS: Final = 200  # of one look
SECONDS: Final = 1.0  # of all of them
VIEWS: Final = {"city": "catalog_cities", "company": "catalog_companies", "product": "catalog_products"}
BIGINT: Final = range(-(2**63), 2**63)
NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
BEGINNING_OF_A_RUN: Final = re.compile(r"[0-9a-fA-F]{6,32}")
EVENT: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
LETTERS: Final = 100  # of a name that the index has
SPECIAL: Final = re.compile(r"([\\%_])")  # in LIKE's patterns

Kind = Literal["city", "company", "product", "run", "event"]


@dataclass(frozen=True)
class Hit:
    """Something that may be meant."""

    kind: Kind
    id: str
    name: str | None = None  # of a row; of a run its task, of an event its subject
    external_id: str | None = None
    state: str | None = None  # of a run
    task_id: str | None = None  # of an event: the run that applied it
    at: datetime | None = None  # when a run was queued, an event captured, applied or buried


@dataclass
class Hits:
    """What was found, and kinds that could not be looked through in time."""

    items: list[Hit] = field(default_factory=list)
    incomplete: list[Kind] = field(default_factory=list)


@dataclass(frozen=True)
class Attempt:
    """One statement."""

    kind: Kind
    sql: str
    parameters: dict[str, Any]
    hit: Callable[..., Hit]


def search(text: str) -> dict[str, Any]:
    """Rows, runs and events that this may mean; ids before names. Raises DatabaseAway."""
    found, ends = Hits(), time.monotonic() + SECONDS
    for attempt in _attempts(text.strip()):
        try:
            hits = _ask(attempt, min(LOOK_MS, int((ends - time.monotonic()) * 1000)))
        except TooLong:
            found.incomplete += [attempt.kind] if attempt.kind not in found.incomplete else []
        else:
            found.items += [hit for hit in hits if hit not in found.items]
    return asdict(found)


def _ask(attempt: Attempt, ms: int) -> list[Hit]:
    if ms <= 0:
        raise TooLong
    with db.transaction() as connection:
        connection.exec_driver_sql(SQL["limit"], {"ms": ms})
        return [
            attempt.hit(*row) for row in connection.exec_driver_sql(attempt.sql, {"limit": LIMIT, **attempt.parameters})
        ]


def _attempts(text: str) -> Iterator[Attempt]:
    yield from _events(text)
    yield from _runs(text)
    number = int(text) if NUMBER.fullmatch(text) and int(text) in BIGINT else None
    for name, parameters in (("by_id", {"id": number, "text": text}), ("by_name", {"prefix": _beginning(text)})):
        for noun, view in VIEWS.items():
            yield Attempt(noun, SQL[name].format(view=view), parameters, _row_of(noun))  # type: ignore[arg-type]


def _row_of(noun: Any) -> Callable[..., Hit]:
    return lambda key, name, external_id: Hit(noun, key, name, external_id)


def _beginning(text: str) -> str:
    """LIKE's pattern for what begins with this text, as far as the index goes."""
    return SPECIAL.sub(r"\\\1", text[:LETTERS]) + "%"


def _runs(text: str) -> Iterator[Attempt]:
    digits = text.replace("-", "")
    if BEGINNING_OF_A_RUN.fullmatch(digits):
        bounds = {"first": str(UUID(digits.ljust(32, "0"))), "last": str(UUID(digits.ljust(32, "f")))}
        yield Attempt(
            "run", SQL["runs"], bounds, lambda key, task, state, at: Hit("run", key, task, None, state, None, at)
        )


def _events(text: str) -> Iterator[Attempt]:
    """Only whole ids: an event has no index of its own."""
    if EVENT.fullmatch(text):
        for name in ("patched_events", "waiting_events", "buried_events"):
            yield Attempt("event", SQL[name], {"event": text.lower(), "most": MOST}, _event)


def _event(key: str, subject: str | None, task_id: str | None, at: datetime) -> Hit:
    return Hit("event", key, subject, None, None, task_id, at)
