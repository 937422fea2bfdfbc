"""Incidents: what was wrong, from when to when. The observer writes them; page, probes and metrics read them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.errors import DatabaseAway
from backend.app.health.judge import Verdict
from backend.app.health.kinds import KINDS
from backend.app.settings import settings
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
log = logging.getLogger(__name__)
WATCH_SECONDS: Final = 3.0  # between two looks
OF_ALL: Final = [kind.name for kind in KINDS.values() if kind.stops_events]
AWAY: Final = ("database_away", "")
Name = tuple[str, str]  # kind and subject


@dataclass(frozen=True)
class Incident:
    """One row, with its sentences."""

    id: int
    kind: str
    subject: str
    began_at: datetime
    ended_at: datetime | None
    values: dict[str, Any]

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return ((self.ended_at or datetime.now(UTC)) - self.began_at).total_seconds()

    def as_dict(self) -> dict[str, Any]:
        """The contract's fields, ready for JSON."""
        kind = KINDS.get(self.kind)  # None: another release's
        return {
            "id": self.id,
            "kind": self.kind,
            "subject": self.subject,
            "severity": kind.severity if kind else "warning",
            "began_at": self.began_at.isoformat(),
            "ended_at": self.ended_at and self.ended_at.isoformat(),
            "values": self.values,
            "effect": kind.sentence(self.values, self.seconds) if kind else "",
            "advice": kind.advice if kind else "",
        }


@dataclass
class Book:
    """What this process has seen begin and end; kept in memory while the database is away, and written afterwards."""

    _began: float = field(default_factory=time.monotonic)
    _open: dict[Name, dict[str, Any]] = field(default_factory=dict)  # rows as they are written
    _written: set[Name] = field(default_factory=set)  # of these
    _ended: list[dict[str, Any]] = field(default_factory=list)  # before they could be written

    def take(self, verdict: Verdict, at: datetime | None = None) -> None:
        """Remember a verdict, and write all that is not written yet. Loses nothing when the database is away."""
        at = at or datetime.now(UTC)
        undecided = self._undecided(verdict)
        wrong = {(one.kind, one.subject): one for one in verdict.wrong}
        for name in [name for name in self._open if name not in wrong and name[0] not in undecided]:
            self._end(name, at)
        for name, one in wrong.items():
            if name not in self._open:
                log.warning("incident: %s", one.effect, extra={"kind": one.kind})
            began_at = self._open[name]["began_at"] if name in self._open else one.since(at).isoformat()
            self._open[name] = {"kind": name[0], "subject": name[1], "began_at": began_at, "values": one.values}
        if AWAY not in wrong:
            self._write(undecided)

    def _end(self, name: Name, at: datetime) -> None:
        row = self._open.pop(name)
        log.info("incident over", extra={"kind": name[0]})
        if name not in self._written:
            self._ended.append(row | {"ended_at": at.isoformat()})
        self._written.discard(name)

    def _write(self, undecided: list[str]) -> None:
        wrong = json.dumps(list(self._open.values()))
        try:
            with db.transaction() as connection:
                if self._ended:
                    connection.exec_driver_sql(SQL["write_ended"], {"ended": json.dumps(self._ended)})
                connection.exec_driver_sql(SQL["begin"], {"wrong": wrong})
                connection.exec_driver_sql(SQL["end"], {"wrong": wrong, "undecided": undecided})
        except DatabaseAway:
            return
        self._ended.clear()
        self._written = set(self._open)

    def _undecided(self, verdict: Verdict) -> list[str]:
        """Kinds that cannot be judged now: of unknown parts, and at first those that show only after some time."""
        is_new = time.monotonic() - self._began < settings().stall_seconds + WATCH_SECONDS
        return sorted(
            kind.name for kind in KINDS.values() if kind.part in verdict.unknown or (is_new and kind.takes_time)
        )


def open_now() -> list[Incident]:
    """All that is wrong. Raises DatabaseAway."""
    with db.transaction() as connection:
        return [Incident(*row) for row in connection.exec_driver_sql(SQL["open"])]


@dataclass(frozen=True)
class Overview:
    """What is wrong, and since when nothing was before that."""

    open: list[Incident]
    well_since: datetime | None  # end of the last incident; else the oldest observation that is kept


def overview() -> Overview:
    """One look. Raises DatabaseAway."""
    with db.transaction() as connection:
        found = [Incident(*row) for row in connection.exec_driver_sql(SQL["open"])]
        return Overview(found, connection.exec_driver_sql(SQL["well_since"]).scalar())


def listed(
    limit: int, kind: str | None = None, is_open: bool = False, since: datetime | None = None, before: int | None = None
) -> list[Incident]:
    """Incidents, newest first, below the id `before`. Raises DatabaseAway."""
    parameters = {"limit": limit, "kind": kind, "open": is_open, "since": since, "before": before}
    with db.transaction() as connection:
        return [Incident(*row) for row in connection.exec_driver_sql(SQL["listed"], parameters)]


def of_a_city(connection: Connection, wrong: Sequence[Mapping[str, Any]], limit: int) -> list[Incident]:
    """Of the last week, newest first: what concerned all cities, and what was open while a row of this one was wrong;
    `wrong`: its findings."""
    spans = [{name: one[name] for name in ("found_at", "mended_at")} for one in wrong]
    parameters = {"of_all": OF_ALL, "wrong": json.dumps(spans, default=datetime.isoformat), "limit": limit}
    return [Incident(*row) for row in connection.exec_driver_sql(SQL["of_a_city"], parameters)]


def between(begin: datetime, end: datetime, limit: int) -> list[Incident]:
    """Incidents of this time, the longest first. Raises DatabaseAway."""
    parameters = {"begin": begin, "end": end, "limit": limit}
    with db.transaction() as connection:
        return [Incident(*row) for row in connection.exec_driver_sql(SQL["between"], parameters)]
