"""Commit-to-cache times as a histogram that fits into a row, and percentiles read off it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from events import times

BOUNDS: Final = (
    1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000,
    10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000, 900_000, 3_600_000, 86_400_000,
)  # fmt: skip
"""Upper bounds in milliseconds, up to a day: what waited for a server counts as well. One more bucket takes what is
slower. console/state.sql counts the buckets; histograms of other bounds, as of an earlier release, are left out."""
SAMPLE: Final = 200  # events of one batch that are looked at


def histogram(texts: Sequence[str], now: float | None = None) -> list[int]:
    """Events by time since they were written; `texts` are RFC 3339. Of a large batch a sample stands for all."""
    return measured(texts, now)[0]


def measured(texts: Sequence[str], now: float | None = None) -> tuple[list[int], float]:
    """The histogram, and the sum of all its times in seconds."""
    now = time.time() if now is None else now
    counts, seconds = [0] * (len(BOUNDS) + 1), 0.0
    step = max(1, len(texts) // SAMPLE)
    for text in texts[::step]:
        at = times.seconds(text, now)
        if at is not None:
            counts[bisect_left(BOUNDS, (now - at) * 1000)] += step
            seconds += step * (now - at)
    return counts, seconds


def total(histograms: Iterable[Sequence[int]]) -> list[int]:
    """The sum of histograms of these bounds."""
    none = [0] * (len(BOUNDS) + 1)
    return [sum(column) for column in zip(none, *(one for one in histograms if len(one) == len(none)), strict=True)]


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The time in milliseconds below which this share of the events lies, within its bucket linearly; None of none."""
    wanted, seen, lower = share * sum(counts), 0, 0.0
    if not wanted:
        return None
    for number, upper in zip(counts, (*BOUNDS, BOUNDS[-1]), strict=False):
        if number and seen + number >= wanted:
            return round(lower + (upper - lower) * (wanted - seen) / number, 2)
        seen, lower = seen + number, float(upper)
    return float(BOUNDS[-1])
