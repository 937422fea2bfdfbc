"""The auditor: compares caches and truth all the time, a little at a time, and never alarms on what is under way.

It sweeps both mappings in windows of ids, so missing and extra rows are found as surely as wrong ones, looks sooner at
keys that events touched, and compares counts and active cities as a whole. Each comparison is the one diff. Its pace
is a share of one core: a step that took d seconds is paid for by a pause of d / share.

A row that differs becomes a suspect. Only if it still differs after the grace, and the pipeline has passed the moment
of the first look, is it wrong: then it is written down, counted against the nines, and repaired through `patch`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import CACHE_TYPES, patch, recount, repair_active
from backend.app.settings import settings
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("observing.sql"))
CAUSE: Final = Cause("audit")
WINDOW_IDS: Final = 20_000  # of one step of a sweep: about 30 ms
CHANGED_KEYS: Final = 500  # of one look at what events touched
WHOLE_SECONDS: Final = 5.0  # between two comparisons of counts and active cities, at least
SWEEP_SECONDS: Final = 5.0  # between two sweeps, at least, where the tables are small
MOST_SUSPECTS: Final = 5_000
LONGER: Final = "SET LOCAL statement_timeout = '60s'"


@dataclass
class Suspect:
    """A key that differed."""

    cache: str
    key: Any
    seen_at: datetime
    due: float  # monotonic seconds, when to look again


@dataclass
class Sweep:
    """A round through one mapping."""

    cache: str
    after: int = diff.BIGINT_MIN
    not_before: float = 0.0  # monotonic seconds


@dataclass
class Auditor:
    """The state of one auditor; `passed` says whether the pipeline has passed an instant."""

    passed: Callable[[datetime], bool]
    suspects: dict[tuple[str, Any], Suspect] = field(default_factory=dict)
    _sweeps: list[Sweep] = field(default_factory=lambda: [Sweep("products"), Sweep("companies")])
    _next_whole: float = 0.0
    _next_step: float = 0.0
    _since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def run_once(self) -> float:
        """One small step; seconds to pause. Raises Away."""
        began = time.monotonic()
        self._look_again()
        if began >= self._next_step:
            self._sweep()
            self._changed()
            if began >= self._next_whole:
                self._whole()
            pause = (time.monotonic() - began) / max(settings().audit_core_share, 1e-4)
            self._next_step = time.monotonic() + min(max(pause, 0.5), 600.0)
        due = min([self._next_step, *(suspect.due for suspect in self.suspects.values())])
        return max(0.1, min(due - time.monotonic(), 1.0))

    def _sweep(self) -> None:
        for sweep in self._sweeps:
            if time.monotonic() < sweep.not_before:
                continue
            with db.snapshot() as connection:
                noun = "product_window" if sweep.cache == "products" else "company_window"
                parameters = {"after": sweep.after, "rows": WINDOW_IDS}
                end = connection.exec_driver_sql(SQL[noun], parameters).scalar_one()
                until = diff.BIGINT_MAX if end is None else int(end)
                found = diff.compare(connection, sweep.cache, sweep.after, until)
            self._take(sweep.cache, found.checked, found.keys)
            sweep.after = diff.BIGINT_MIN if end is None else until
            sweep.not_before = time.monotonic() + SWEEP_SECONDS if end is None else 0.0

    def _changed(self) -> None:
        """Keys that events touched since the last look."""
        now = datetime.now(UTC)
        with db.transaction() as connection:
            parameters = {"since": self._since, "most": CHANGED_KEYS}
            subjects = [row[0] for row in connection.exec_driver_sql(SQL["changed_lately"], parameters)]
        self._since = now
        ids = {noun: sorted({int(s.partition("/")[2]) for s in subjects if s.startswith(noun)}) for noun in NOUNS}
        if any(ids.values()):
            with db.snapshot() as connection:
                differing = diff.differing(connection, Keys(ids["product"], ids["company"]))
            self._take("products", len(ids["product"]), set(ids["product"]).intersection(differing.products))
            self._take("companies", len(ids["company"]), differing.companies)

    def _whole(self) -> None:
        began = time.monotonic()
        with _snapshot() as connection:
            for cache in ("counts", "active"):
                found = diff.compare(connection, cache)
                self._take(cache, found.checked, found.keys)
        took = time.monotonic() - began
        self._next_whole = time.monotonic() + max(WHOLE_SECONDS, took / max(settings().audit_core_share, 1e-4))

    def _take(self, cache: str, checked: int, keys: Any) -> None:
        """Count what was compared; differing keys become suspects, and are counted when they are judged."""
        grace = settings().audit_grace_seconds
        for key in keys:
            if len(self.suspects) < MOST_SUSPECTS:
                suspect = Suspect(cache, key, datetime.now(UTC), time.monotonic() + grace)
                self.suspects.setdefault((cache, key), suspect)
        self._count(cache, checked, 0)

    def _look_again(self) -> None:
        now = time.monotonic()
        due = [suspect for suspect in self.suspects.values() if suspect.due <= now]
        for cache in diff.TABLES:
            self._judge(cache, [suspect for suspect in due if suspect.cache == cache])

    def _judge(self, cache: str, suspects: Sequence[Suspect]) -> None:
        if not suspects:
            return
        wrong = self._still_differ(cache, [suspect.key for suspect in suspects])
        for suspect in suspects:
            if suspect.key not in wrong:
                del self.suspects[cache, suspect.key]
        left = [suspect for suspect in suspects if suspect.key in wrong]
        if not left:
            return
        if not self.passed(max(suspect.seen_at for suspect in left)):
            for suspect in left:  # its event may be under way
                suspect.due = time.monotonic() + 1.0
            return
        still = self._still_differ(cache, [suspect.key for suspect in left])  # the event that came in between
        confirmed = [suspect.key for suspect in left if suspect.key in still]
        for suspect in left:
            del self.suspects[cache, suspect.key]
        if confirmed:
            self._write_down(cache, confirmed, still)
            self._count(cache, 0, len(confirmed))
            _repair(cache, confirmed)

    def _still_differ(self, cache: str, keys: list[Any]) -> dict[Any, str]:
        """Those that differ, and how."""
        with _snapshot() as connection:
            if cache in ("counts", "active"):
                found = diff.compare(connection, cache)
                sides = {"missing": found.missing, "extra": found.extra, "different": found.different}
                return {key: side for side, ids in sides.items() for key in ids if key in set(keys)}
            rows = diff.rows(connection, cache, keys)
            return {row.key: _side(row) for row in rows if row.before != row.after}

    def _write_down(self, cache: str, keys: list[Any], sides: dict[Any, str]) -> None:
        with db.snapshot() as connection:
            rows = {row.key: row for row in diff.rows(connection, cache, keys)} if cache != "active" else {}
        with db.transaction() as connection:
            for key in keys:
                row = rows.get(key)
                parameters = {"cache": cache, "id": key if cache != "active" else 0}
                finding = {
                    "cache": cache,
                    "key": str(key),
                    "side": sides[key],
                    "cached": json.dumps(row.before) if row else None,
                    "wanted": json.dumps(row.after) if row else None,
                    "last_patch": connection.exec_driver_sql(SQL["last_patch"], parameters).scalar_one(),
                }
                connection.exec_driver_sql(SQL["found"], finding)

    def _count(self, cache: str, checked: int, wrong: int) -> None:
        if checked or wrong:
            with db.transaction() as connection:
                connection.exec_driver_sql(SQL["audited"], {"cache": cache, "checked": checked, "wrong": wrong})


@contextmanager
def _snapshot() -> Iterator[Connection]:
    """A snapshot that may take longer than what the process allows its requests."""
    with db.snapshot() as connection:
        connection.exec_driver_sql(LONGER)
        yield connection


@contextmanager
def _transaction() -> Iterator[Connection]:
    with db.transaction() as connection:
        connection.exec_driver_sql(LONGER)
        yield connection


NOUNS: Final = ("product", "company")


def _side(row: diff.RowDifference) -> str:
    return "missing" if row.before is None else "extra" if row.after is None else "different"


def _repair(cache: str, keys: list[Any]) -> None:
    """Through the one writer. A mapping changed behind its back left the counts behind as well, so they follow."""
    with _transaction() as connection:
        if cache in ("products", "companies"):
            patch(connection, Keys(**{cache: sorted(keys)}), CAUSE)
    with _transaction() as connection:
        recount(connection)
    for cache_type in CACHE_TYPES:
        with _transaction() as connection:
            repair_active(connection, cache_type)
