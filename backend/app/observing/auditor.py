"""The auditor: compares caches and truth all the time, a little at a time, and never alarms on what is under way.

It sweeps both mappings in windows of ids, so missing and extra rows are found as surely as wrong ones, and looks sooner
at keys that events touched, and at rows that were written whether events say so or not (`witness`). Each comparison is
the one diff. Its pace is a share of one core, a third of it each for sweeps, for counts and active cities, and for the
witness: a step that took d seconds is paid for by a pause of 3 d / share. How long its rounds take is written down:
that is the time within which a single wrong row is found, wherever it is.

A row that differs becomes a suspect. If it still differs when the pipeline has passed, it is judged, see
`caches.under_way`: so where all is well, nobody is judged, and no patch has to tell what it looks at.
Numbers of counts and active cities move in one transaction with the mappings, so they are compared with these, exactly
and at once.

Whatever fails, suspects and positions stay. A window whose comparison takes too long is made smaller.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff, under_way
from backend.app.caches.keys import Keys
from backend.app.caches.patch import CacheType
from backend.app.caches.under_way import Differing, Judgement
from backend.app.errors import Away, TooLong
from backend.app.observing import findings, past_capture, witness
from backend.app.observing.findings import WrongRow
from backend.app.settings import settings
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_name("observing.sql"))
WINDOW_IDS: Final = 20_000  # of one step of a sweep: about 30 ms
LEAST_IDS: Final = 100  # of a window that took too long again and again
CHANGED_KEYS: Final = 500  # of one look at what events touched
WHOLE_SECONDS: Final = 5.0  # between two comparisons of counts and active cities, at least
SWEEP_SECONDS: Final = 5.0  # between two sweeps, at least, where the tables are small
LONGEST_PAUSE: Final = 600.0  # seconds
MOST_SUSPECTS: Final = 5_000
RETRY_SECONDS: Final = 1.0  # until a suspect that may be under way is looked at again
JUDGED_SECONDS: Final = 60.0  # at most, of suspects that differ again and again
PASSING_MS: Final = 2_000  # within which patches that are under way must end; the observer has other work meanwhile
STEPS: Final = 3  # kinds of them, which share what the auditor may take
CACHES: Final = (*findings.MAPPINGS, "counts")  # of suspects


@dataclass
class SuspectRow:
    """A row that differed."""

    cache: str
    key: int
    due: float  # monotonic seconds, when to look again
    seen_at: datetime  # by the database's clock


@dataclass
class Hearing:
    """Suspects of one cache that are being judged."""

    judgement: Judgement
    found: Differing
    stood: int = 0  # times


@dataclass
class Sweep:
    """A round through one mapping."""

    cache: CacheType
    after: int | None = None  # the last id of the window before; None: the round begins
    ids: int = WINDOW_IDS  # of the next window
    rows: int = 0  # compared in this round
    not_before: float = 0.0  # monotonic seconds
    began: float | None = None  # monotonic seconds, when this round did


@dataclass
class Auditor:
    """The state of one auditor; `passed` says whether the pipeline has passed an instant."""

    passed: Callable[[datetime], bool]
    suspects: dict[tuple[str, int], SuspectRow] = field(default_factory=dict)
    _hearings: dict[str, Hearing] = field(default_factory=dict)  # by cache
    _sweeps: list[Sweep] = field(
        default_factory=lambda: [Sweep("products", ids=WINDOW_IDS), Sweep("companies", ids=WINDOW_IDS)]
    )
    _compared: dict[str, int] = field(default_factory=dict)  # rows, not yet counted
    _witness: witness.Witness = field(default_factory=witness.Witness)
    _next_written: float = 0.0
    _next_whole: float = 0.0
    _whole_began: float | None = None
    _next_step: float = 0.0
    _since: datetime | None = None  # the last look at what events touched, by the database's clock

    def run_once(self) -> float:
        """One small step; seconds to pause. Raises Away."""
        began = time.monotonic()
        self._attempt(self._look_again)
        if began >= self._next_written:
            self._attempt(self._written)
            self._next_written = time.monotonic() + witness.pause(time.monotonic() - began, _share())
        if (began := time.monotonic()) >= self._next_step:
            for sweep in self._sweeps:
                self._attempt(lambda sweep=sweep: self._sweep(sweep), lambda sweep=sweep: _narrow(sweep))  # type: ignore[misc]
            self._attempt(self._changed)
            took = time.monotonic() - began
            if began >= self._next_whole:
                self._attempt(self._whole)
                self._next_whole = time.monotonic() + max(WHOLE_SECONDS, _pause(time.monotonic() - began - took))
            self._next_step = time.monotonic() + min(max(_pause(took), 0.5), LONGEST_PAUSE)
        due = min([self._next_step, *(suspect.due for suspect in self.suspects.values())])
        return max(0.1, min(due - time.monotonic(), 1.0))

    def _attempt(self, step: Callable[[], None], too_long: Callable[[], None] = lambda: None) -> None:
        """A step that fails keeps no other one from its turn."""
        try:
            step()
        except TooLong as failure:
            log.warning("a step of the auditor took too long: %s", failure)
            too_long()
        except Away:
            raise
        except Exception:
            log.exception("a step of the auditor failed")

    def _sweep(self, sweep: Sweep) -> None:
        if (now := time.monotonic()) < sweep.not_before:
            return
        if sweep.after is None:
            self._round(sweep, now)
        with findings.snapshot() as connection:
            noun = "product_window" if sweep.cache == "products" else "company_window"
            parameters = {"after": sweep.after, "rows": sweep.ids}
            end = connection.exec_driver_sql(SQL[noun], parameters).scalar_one()
            until = diff.BIGINT_MAX if end is None else int(end)
            found = diff.compare(connection, sweep.cache, sweep.after, until)
        self._take(sweep.cache, found.checked, found.keys)
        sweep.rows += found.checked
        sweep.ids = min(WINDOW_IDS, max(sweep.ids + 1, sweep.ids * 5 // 4))
        sweep.after = None if end is None else until
        sweep.not_before = time.monotonic() + SWEEP_SECONDS if end is None else 0.0

    def _round(self, sweep: Sweep, now: float) -> None:
        """Another round begins: every row of this cache has been compared since the one before began."""
        if sweep.began is not None:
            with db.transaction() as connection:
                seconds, rows = now - sweep.began, sweep.rows
                findings.count(connection, sweep.cache, round_seconds=seconds, round_rows=rows)
        sweep.began, sweep.rows = now, 0

    def _changed(self) -> None:
        """Keys that events touched since the last look."""
        with findings.snapshot() as connection:
            now = connection.exec_driver_sql(SQL["now"]).scalar_one()
            parameters = {"since": self._since or now, "most": CHANGED_KEYS}
            subjects = connection.exec_driver_sql(SQL["changed_lately"], parameters).scalars().all()
            products, companies = (_ids(subjects, noun) for noun in ("product", "company"))
            differing = diff.differing(connection, Keys(products, companies))
        self._take("products", len(products), sorted(set(products).intersection(differing.products)))
        self._take("companies", len(companies), differing.companies)
        self._since = now

    def _written(self) -> None:
        """Rows that were written since the last look, whether capture saw it or not."""
        tables = self._witness.tables()
        with findings.snapshot() as connection:
            found = list(self._witness.differing(connection, tables))
        for cache, keys in found:
            self._take(cache, 0, keys)

    def _whole(self) -> None:
        """Counts and active cities; where counts are wrong, the next look tells of the active ones."""
        began = time.monotonic()
        with findings.snapshot() as connection:
            sizes = dict(zip(("counts", "active"), connection.exec_driver_sql(SQL["whole_sizes"]).one(), strict=True))
            counts = diff.counts_beside_mappings(connection)
            wrong = [WrongRow("counts", str(row.key), row.before, row.after) for row in counts]
            active = [] if wrong else diff.active_beside_counts(connection)
            stale = [WrongRow("active", name, None, None) for name in active]
            uncounted = [row.key for row in diff.uncounted(connection)]
        self._take("counts", 0, uncounted)
        with db.transaction() as connection:
            for cache, rows in sizes.items():
                findings.count(connection, cache, checked=rows)
                if self._whole_began is not None:
                    findings.count(connection, cache, round_seconds=began - self._whole_began, round_rows=rows)
        self._whole_began = began
        findings.confirm("counts", wrong)
        findings.confirm("active", stale)
        for cache in (*CACHES, "active"):
            findings.revisit(cache, findings.open_keys(cache))

    def _take(self, cache: str, checked: int, keys: Sequence[int]) -> None:
        """Count what was compared; keys that differ become suspects."""
        self._compared[cache] = self._compared.get(cache, 0) + checked
        room = max(0, MOST_SUSPECTS - len(self.suspects))
        fresh = [key for key in keys if (cache, key) not in self.suspects][:room]
        if fresh:
            with db.transaction() as connection:
                seen_at = under_way.instant(connection)
            due = time.monotonic() + settings().audit_grace_seconds
            self.suspects.update({(cache, key): SuspectRow(cache, key, due, seen_at) for key in fresh})

    def _look_again(self) -> None:
        with db.transaction() as connection:
            for cache, checked in self._compared.items():
                findings.count(connection, cache, checked=checked)
        self._compared.clear()
        now = time.monotonic()
        for cache in CACHES:
            due = [suspect for suspect in self.suspects.values() if suspect.cache == cache and suspect.due <= now]
            if due:
                self._judge(cache, due)

    def _judge(self, cache: str, suspects: Sequence[SuspectRow]) -> None:
        """Go as far as the pipeline has passed; who is neither acquitted nor wrong then is looked at again."""
        for suspect in suspects:
            suspect.due = time.monotonic() + RETRY_SECONDS
        hearing = self._hearings.get(cache) or self._begin(cache, suspects)
        while hearing is not None and self.passed(hearing.found.instant):
            hearing = self._go_on(cache, hearing)

    def _begin(self, cache: str, suspects: Sequence[SuspectRow]) -> Hearing | None:
        """Acquit what has come right, and judge what has not, although the pipeline has passed."""
        differing = _look(cache, [suspect.key for suspect in suspects]).keys
        for key in {suspect.key for suspect in suspects}.difference(differing):
            del self.suspects[cache, key]
        if not differing or not self.passed(max(suspect.seen_at for suspect in suspects)):
            return None
        judgement = under_way.begin(cache, JUDGED_SECONDS, PASSING_MS)
        if judgement is None:
            return None
        self._hearings[cache] = Hearing(judgement, _look(cache, differing))
        return self._hearings[cache]

    def _go_on(self, cache: str, hearing: Hearing) -> Hearing | None:
        """The pipeline has passed the look, or the time when keys had stood once."""
        found = hearing.judgement.standing(hearing.found.keys)
        if found is not None and found.keys and hearing.stood + 1 < under_way.TIMES:
            hearing.found, hearing.stood = found, hearing.stood + 1
            return hearing
        del self._hearings[cache]
        hearing.judgement.end()
        if found is not None and found.keys:
            with findings.snapshot() as connection:
                rows = _differing(connection, cache, found.keys)
            for key in found.keys:
                del self.suspects[cache, key]
            self._confirm(cache, [WrongRow(cache, str(key), row.before, row.after) for key, row in rows.items()])
        return None

    def _confirm(self, cache: str, wrong: Sequence[WrongRow]) -> None:
        if wrong:
            self._attempt(self._whole)  # mending mappings counts anew: what was wrong there would not be told
        tables = past_capture.tables_of(self._witness, cache, wrong)
        fresh = findings.confirm(cache, wrong)
        findings.tell_past_capture(Counter(table for key, table in tables.items() if key in fresh))


def _look(cache: str, keys: Sequence[int]) -> Differing:
    with findings.snapshot() as connection:
        differing = sorted(_differing(connection, cache, keys))
        return Differing(under_way.instant(connection), differing)


def _differing(connection: Connection, cache: str, keys: Sequence[int]) -> dict[int, diff.RowDifference]:
    if cache == "counts":
        return {row.key: row for row in diff.uncounted(connection, keys)}
    return {row.key: row for row in diff.rows(connection, cache, keys) if row.before != row.after}


def _ids(subjects: Sequence[str], noun: str) -> list[int]:
    return sorted({int(number) for said, _, number in (subject.partition("/") for subject in subjects) if said == noun})


def _narrow(sweep: Sweep) -> None:
    sweep.ids = max(LEAST_IDS, sweep.ids // 4)


def _pause(took: float) -> float:
    return took / _share()


def _share() -> float:
    """Of one core, for each kind of step."""
    return max(settings().audit_core_share, 1e-4) / STEPS
