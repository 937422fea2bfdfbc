"""Consistency as a service level: "N nines within M seconds", never more than the sample supports."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from backend.app import db
from backend.app.settings import settings
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("observing.sql"))
WINDOWS: Final = ("hour", "day", "week")
LOOK_SECONDS: Final = 2.0  # until the auditor comes to what is due
RULE_OF_THREE: Final = 3.0  # none wrong among n: with 95 % confidence fewer than 3/n are


@dataclass(frozen=True)
class Level:
    """One cache over one window."""

    checked: int  # rows compared
    wrong: int  # of them, still wrong after the grace
    nines: float  # 3.0 means 99.9 % of rows right; with 95 % confidence where none was wrong
    supported: float  # the most that a sample of this size can show


def level(checked: int, wrong: int) -> Level:
    """The nines of a sample. None wrong shows 3/n at best (rule of three); else the share of wrong rows counts."""
    if not checked:
        return Level(0, 0, 0.0, 0.0)
    supported = max(0.0, -math.log10(min(1.0, RULE_OF_THREE / checked)))
    nines = supported if not wrong else max(0.0, min(supported, -math.log10(wrong / checked)))
    return Level(checked, wrong, round(nines, 2), round(supported, 2))


def levels() -> dict[str, Any]:
    """By cache and window, and for all caches together. Raises DatabaseAway.

    `found_within_seconds`: a row that goes wrong now is found by then at the latest, wherever it is, at the pace of the
    auditor's last round; a cache without a whole round behind it is not there yet.
    """
    with db.transaction() as connection:
        rows = connection.exec_driver_sql(SQL["nines"]).fetchall()
        rounds: dict[str, float] = dict(map(tuple, connection.exec_driver_sql(SQL["rounds"])))
    caches: dict[str, Any] = {}
    sums = [[0, 0] for _ in WINDOWS]
    for cache, *numbers in rows:
        pairs = [(numbers[2 * index] or 0, numbers[2 * index + 1] or 0) for index in range(len(WINDOWS))]
        caches[cache] = {name: asdict(level(*pair)) for name, pair in zip(WINDOWS, pairs, strict=True)}
        for index, (checked, wrong) in enumerate(pairs):
            sums[index][0] += checked
            sums[index][1] += wrong
    together = {name: asdict(level(*pair)) for name, pair in zip(WINDOWS, sums, strict=True)}
    grace = settings().audit_grace_seconds
    found = {cache: round(seconds + grace + LOOK_SECONDS, 1) for cache, seconds in rounds.items()}
    return {"within_seconds": grace, "caches": caches, "all": together, "found_within_seconds": found}
