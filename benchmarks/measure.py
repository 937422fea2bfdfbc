"""Numbers and how they are compared: variants take turns (A B A B), medians count, the spread is shown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Wanted:
    """The bound that a row should keep."""

    bound: float
    at_least: bool = True  # else at most
    of: Literal["ratio", "value"] = "ratio"

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{' x' if self.of == 'ratio' else ''}"


@dataclass(frozen=True)
class Row:
    """One measured line of a table."""

    what: str
    samples: Sequence[float]  # one a round
    unit: str
    against: str = ""  # `what` of the row that it is divided by
    wanted: Wanted | None = None
    more: Mapping[str, float] = field(default_factory=dict)  # further numbers, named

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half the distance from the smallest to the largest sample, as a part of the median."""
        return (max(self.samples) - min(self.samples)) / 2 / self.value if self.value else 0.0


@dataclass(frozen=True)
class Table:
    """What one benchmark found."""

    name: str  # of the module
    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()  # what a reader must know to judge the numbers
    skipped: str = ""  # why nothing was measured

    def row(self, what: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.what == what)

    def ratio(self, row: Row) -> float | None:
        """The row's value by that of its baseline; None without one."""
        if not row.against or not (base := self.row(row.against).value):
            return None
        return row.value / base

    def reached(self, row: Row) -> bool | None:
        """Whether the row is as wanted; None when nothing is wanted of it."""
        if row.wanted is None:
            return None
        got = self.ratio(row) if row.wanted.of == "ratio" else row.value
        if got is None:
            return None
        return got >= row.wanted.bound if row.wanted.at_least else got <= row.wanted.bound

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        rows = [
            asdict(row) | {"value": row.value, "ratio": self.ratio(row), "reached": self.reached(row)}
            for row in self.rows
        ]
        return {"name": self.name, "title": self.title, "rows": rows, "notes": self.notes, "skipped": self.skipped}

    @staticmethod
    def from_dict(said: Mapping[str, Any]) -> Table:
        """The table that `as_dict` has told."""
        rows = [
            Row(**{name: row[name] for name in ("what", "samples", "unit", "against", "more")}, wanted=_wanted(row))
            for row in said["rows"]
        ]
        return Table(said["name"], said["title"], rows, said["notes"], said["skipped"])


def _wanted(row: Mapping[str, Any]) -> Wanted | None:
    return Wanted(**row["wanted"]) if row["wanted"] else None


def alternate(rounds: int, variants: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run the variants in turn, `rounds` times, so that a machine that slows down slows all of them."""
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            samples[name].append(run())
    return samples


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max; nearest rank."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    ranks = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
    found = {name: ordered[min(len(ordered) - 1, int(part * len(ordered)))] for name, part in ranks.items()}
    return found | {"max": ordered[-1]}
