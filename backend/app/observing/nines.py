"""Consistency as a service level: "N nines within M seconds", never more than the sample supports.

What was found wrong lowers them at once, until its window has passed: comparing rows again that are right does not
dilute it, so the sample is then what had been compared when the last wrong row was found, each row once at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from backend.app import db
from backend.app.settings import settings
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("observing.sql"))
WINDOWS: Final = ("hour", "day", "week")
LOOK_SECONDS: Final = 2.0  # until the auditor comes to what is due
ONE_SIDED: Final = 1.645  # standard deviations: 95 % of a normal distribution lie below


@dataclass(frozen=True)
class Sample:
    """What was compared of one cache over one window; numbers of rows."""

    checked: int = 0  # a row counts as often as it was compared
    until_found: int = 0  # of them, by the time of the last finding
    wrong: int = 0  # found wrong, or still wrong from before
    distinct: int | None = None  # in one round; None: no round is done yet

    @property
    def rows(self) -> int:
        """Those that a wrong row is one of."""
        rows = self.until_found or self.checked
        return rows if self.distinct is None else min(rows, self.distinct)


@dataclass(frozen=True)
class Nines:
    """One cache, or all, over one window."""

    checked: int  # rows compared
    wrong: int  # of them, found wrong
    nines: float  # 3.0 means that with 95 % confidence at least 99.9 % of the rows are right
    supported: float  # the most that a sample of this size can show


def level(checked: int, wrong: int = 0, rows: int | None = None) -> Nines:
    """The nines of a sample of `checked` comparisons; where some were wrong, of so many `rows`."""
    if not checked:
        return Nines(0, wrong, 0.0, 0.0)
    supported = _nines(0, checked)
    nines = min(supported, _nines(wrong, max(1, rows or checked))) if wrong else supported
    return Nines(checked, wrong, round(nines, 2), round(supported, 2))


def _nines(wrong: int, rows: int) -> float:
    return max(0.0, -math.log10(min(1.0, _at_most(wrong) / rows)))


def _at_most(wrong: int) -> float:
    """So many may be wrong, with 95 % confidence, when so many were seen (Poisson; none seen: the rule of three).

    The quantile of the gamma distribution as Wilson and Hilferty approximate it: https://doi.org/10.1073/pnas.17.12.684
    """
    shape = wrong + 1
    return float(shape * (1 - 1 / (9 * shape) + ONE_SIDED / (3 * math.sqrt(shape))) ** 3)


def levels() -> dict[str, Any]:
    """By cache and window, and for all caches together. Raises DatabaseAway.

    `found_within_seconds`: a row that goes wrong now is found by then at the latest, wherever it is, at the pace of the
    auditor's last round; a cache without a whole round behind it is not there yet.
    """
    with db.transaction() as connection:
        rows = connection.exec_driver_sql(SQL["nines"]).fetchall()
        open_: dict[str, int] = dict(map(tuple, connection.exec_driver_sql(SQL["open_findings"])))
        rounds = {cache: rest for cache, *rest in connection.exec_driver_sql(SQL["rounds"])}
    samples: dict[str, dict[str, Sample]] = {}
    for cache, window, checked, until_found, wrong in rows:
        distinct = rounds[cache][1] if cache in rounds else None
        samples.setdefault(cache, {})[window] = Sample(checked, until_found, max(wrong, open_.get(cache, 0)), distinct)
    grace = settings().audit_grace_seconds
    found = {cache: round(seconds + grace + LOOK_SECONDS, 1) for cache, (seconds, _) in rounds.items()}
    return {"within_seconds": grace, **_levels(samples), "found_within_seconds": found}


def _levels(samples: Mapping[str, Mapping[str, Sample]]) -> dict[str, Any]:
    caches = {
        cache: {window: _level(windows.get(window, Sample())) for window in WINDOWS}
        for cache, windows in samples.items()
    }
    together = {
        window: _level(*(windows[window] for windows in samples.values() if window in windows)) for window in WINDOWS
    }
    return {"caches": caches, "all": together}


def _level(*samples: Sample) -> dict[str, Any]:
    checked, wrong = sum(one.checked for one in samples), sum(one.wrong for one in samples)
    return asdict(level(checked, wrong, sum(one.rows for one in samples)))
