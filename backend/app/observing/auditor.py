"""The auditor: compares caches and truth all the time, a little at a time, and never alarms on what is under way.

It sweeps both mappings in windows of ids, so missing and extra rows are found as surely as wrong ones, and looks sooner
at keys that events touched. Each comparison is the one diff. Its pace is a share of one core, half of it for sweeps and
half for counts and active cities: a step that took d seconds is paid for by a pause of 2 d / share. How long its rounds
take is written down: that is the time within which a single wrong row is found, wherever it is.

A mapping row that differs becomes a suspect. It is wrong if it still differs after the grace, the pipeline has passed
the moment of the first look, and its source has not been written since: then no event of it can be under way. Counts
and active cities move in one transaction with the mappings, so they are compared with these, exactly and at once.
What is wrong is written down, counted against the nines, and repaired through the one writer.
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
from backend.app.caches.patch import CACHE_TYPES, CacheType, as_array, patch, recount, repair_active
from backend.app.settings import settings
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("observing.sql"))
CAUSE: Final = Cause("audit")
WINDOW_IDS: Final = 20_000  # of one step of a sweep: about 30 ms
CHANGED_KEYS: Final = 500  # of one look at what events touched
WHOLE_SECONDS: Final = 5.0  # between two comparisons of counts and active cities, at least
SWEEP_SECONDS: Final = 5.0  # between two sweeps, at least, where the tables are small
MOST_SUSPECTS: Final = 5_000
RETRY_SECONDS: Final = 1.0  # until a suspect that may be under way is looked at again
LONGER: Final = "SET LOCAL statement_timeout = '60s'"


@dataclass
class Suspect:
    """A mapping row that differed."""

    cache: CacheType
    key: int
    seen_at: datetime
    due: float  # monotonic seconds, when to look again
    version: Any  # of its source at the first look


@dataclass
class Sweep:
    """A round through one mapping."""

    cache: CacheType
    after: int = diff.BIGINT_MIN
    not_before: float = 0.0  # monotonic seconds
    began: float | None = None  # monotonic seconds, when this round did


@dataclass
class Auditor:
    """The state of one auditor; `passed` says whether the pipeline has passed an instant."""

    passed: Callable[[datetime], bool]
    suspects: dict[tuple[str, Any], Suspect] = field(default_factory=dict)
    _sweeps: list[Sweep] = field(default_factory=lambda: [Sweep("products"), Sweep("companies")])
    _compared: dict[CacheType, int] = field(default_factory=dict)  # rows, not yet counted
    _next_whole: float = 0.0
    _whole_began: float | None = None
    _next_step: float = 0.0
    _since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def run_once(self) -> float:
        """One small step; seconds to pause. Raises Away."""
        began = time.monotonic()
        self._look_again()
        if began >= self._next_step:
            self._sweep()
            self._changed()
            took = time.monotonic() - began
            if began >= self._next_whole:
                self._whole()
            self._next_step = time.monotonic() + min(max(_pause(took), 0.5), 600.0)
        due = min([self._next_step, *(suspect.due for suspect in self.suspects.values())])
        return max(0.1, min(due - time.monotonic(), 1.0))

    def _sweep(self) -> None:
        for sweep in self._sweeps:
            if (now := time.monotonic()) < sweep.not_before:
                continue
            if sweep.after == diff.BIGINT_MIN:
                self._round(sweep.began, now, sweep.cache)
                sweep.began = now
            with _snapshot() as connection:
                noun = "product_window" if sweep.cache == "products" else "company_window"
                parameters = {"after": sweep.after, "rows": WINDOW_IDS}
                end = connection.exec_driver_sql(SQL[noun], parameters).scalar_one()
                until = diff.BIGINT_MAX if end is None else int(end)
                found = diff.compare(connection, sweep.cache, sweep.after, until)
                self._take(connection, sweep.cache, found.checked, found.keys)
            sweep.after = diff.BIGINT_MIN if end is None else until
            sweep.not_before = time.monotonic() + SWEEP_SECONDS if end is None else 0.0

    def _changed(self) -> None:
        """Keys that events touched since the last look."""
        now = datetime.now(UTC)
        with _snapshot() as connection:
            parameters = {"since": self._since, "most": CHANGED_KEYS}
            subjects = connection.exec_driver_sql(SQL["changed_lately"], parameters).scalars().all()
            ids = {noun: sorted({int(s.partition("/")[2]) for s in subjects if s.startswith(noun)}) for noun in NOUNS}
            differing = diff.differing(connection, Keys(ids["product"], ids["company"]))
            products = sorted(set(ids["product"]).intersection(differing.products))
            self._take(connection, "products", len(ids["product"]), products)
            self._take(connection, "companies", len(ids["company"]), differing.companies)
        self._since = now

    def _whole(self) -> None:
        began = time.monotonic()
        self._round(self._whole_began, began, "counts", "active")
        self._whole_began = began
        with _snapshot() as connection:
            counts, active = connection.exec_driver_sql(SQL["whole_sizes"]).one()
            wrong = connection.exec_driver_sql(SQL["wrong_counts"]).scalars().all()
            stale = [] if wrong else connection.exec_driver_sql(SQL["wrong_active"]).scalars().all()
        self._count("counts", counts, 0)
        self._count("active", active, 0)
        self._confirm("counts", dict.fromkeys(wrong, "different"))
        self._confirm("active", dict.fromkeys(stale, "different"))  # where counts are wrong, the next look tells
        self._next_whole = time.monotonic() + max(WHOLE_SECONDS, _pause(time.monotonic() - began))

    def _take(self, connection: Connection, cache: CacheType, checked: int, keys: Sequence[int]) -> None:
        """Count what was compared; differing keys become suspects, in the snapshot of the comparison."""
        fresh = [key for key in keys if (cache, key) not in self.suspects][: MOST_SUSPECTS - len(self.suspects)]
        due, now = time.monotonic() + settings().audit_grace_seconds, datetime.now(UTC)
        for key, version in _versions(connection, cache, fresh).items():
            self.suspects[cache, key] = Suspect(cache, key, now, due, version)
        self._compared[cache] = self._compared.get(cache, 0) + checked

    def _look_again(self) -> None:
        for cache, checked in self._compared.items():
            self._count(cache, checked, 0)
        self._compared.clear()
        now = time.monotonic()
        for cache in CACHE_TYPES:
            due = [suspect for suspect in self.suspects.values() if suspect.cache == cache and suspect.due <= now]
            if due:
                self._judge(cache, due)

    def _judge(self, cache: CacheType, suspects: Sequence[Suspect]) -> None:
        """Acquit what has come right, put off what may be under way, confirm the rest."""
        passed = self.passed(max(suspect.seen_at for suspect in suspects))
        keys = [suspect.key for suspect in suspects]
        with _snapshot() as connection:
            rows = {row.key: row for row in diff.rows(connection, cache, keys) if row.before != row.after}
            versions = _versions(connection, cache, list(rows))
        confirmed = {}
        for suspect in suspects:
            if suspect.key not in rows:
                del self.suspects[cache, suspect.key]
            elif not passed or suspect.version != versions[suspect.key]:
                self._put_off(suspect, versions[suspect.key])
            else:
                del self.suspects[cache, suspect.key]
                confirmed[suspect.key] = _side(rows[suspect.key])
        self._confirm(cache, confirmed)

    def _put_off(self, suspect: Suspect, version: Any) -> None:
        """An event of it may be under way: a new one from now on, if its source was written since."""
        if version != suspect.version:
            suspect.version, suspect.seen_at = version, datetime.now(UTC)
        suspect.due = time.monotonic() + RETRY_SECONDS

    def _confirm(self, cache: str, sides: dict[Any, str]) -> None:
        if not sides:
            return
        self._write_down(cache, list(sides), sides)
        self._count(cache, 0, len(sides))
        _repair(cache, list(sides))

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

    def _round(self, began: float | None, now: float, *caches: str) -> None:
        """Another round begins: every row of these caches has been compared since the one before began."""
        if began is not None:
            for cache in caches:
                self._count(cache, 0, 0, now - began)

    def _count(self, cache: str, checked: int, wrong: int, round_seconds: float | None = None) -> None:
        if checked or wrong or round_seconds:
            numbers = {"cache": cache, "checked": checked, "wrong": wrong, "round_seconds": round_seconds}
            with db.transaction() as connection:
                connection.exec_driver_sql(SQL["audited"], numbers)


def _pause(took: float) -> float:
    return 2 * took / max(settings().audit_core_share, 1e-4)


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


def _versions(connection: Connection, cache: CacheType, keys: Sequence[int]) -> dict[int, Any]:
    if not keys:
        return {}
    rows = connection.exec_driver_sql(SQL[f"{cache}_versions"], {"ids": as_array(list(keys))})
    return {row[0]: tuple(row[1:]) for row in rows}


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
