"""The picture of a suite's ratios: one bar for each figure that something is wanted of, against what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import Row, Table
from benchmarks.report import number

REACHED, MISSED, WANTED = "#2f7d4f", "#b5483a", "#333333"
BAR_INCHES: Final = 0.34


def draw(tables: Sequence[Table], folder: Path) -> None:
    """Write results.svg and results.png. A bar longer than the line is better than wanted, whatever the unit."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    bars = [(table, row) for table in tables for row in table.rows if row.wanted and table.reached(row) is not None]
    bars = [(table, row) for table, row in bars if row.wanted and row.wanted.bound]
    if not bars:
        return
    figure, axes = pyplot.subplots(figsize=(10, 1.2 + BAR_INCHES * len(bars)), layout="constrained")
    scores = [score(table, row) for table, row in bars]
    colors = [REACHED if table.reached(row) else MISSED for table, row in bars]
    axes.barh(range(len(bars)), scores, color=colors, height=0.7)
    axes.axvline(1, color=WANTED, linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(bars)), [f"{table.name}: {row.what}" for table, row in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("times as good as wanted")
    for place, (table, row) in enumerate(bars):
        axes.text(max(scores[place], 1) * 1.03, place, _said(table, row), va="center", fontsize=8)
    axes.set_xlim(min([*scores, 0.5]) * 0.8, max([*scores, 2]) * 4)
    axes.spines[["top", "right"]].set_visible(False)
    for kind in ("svg", "png"):
        figure.savefig(folder / f"results.{kind}", dpi=120)
    pyplot.close(figure)


def score(table: Table, row: Row) -> float:
    """How many times as good as wanted; 1 is just reached."""
    if row.wanted is None:
        return 1.0
    got = table.ratio(row) if row.wanted.of == "ratio" else row.value
    if not got:
        return 1.0
    return got / row.wanted.bound if row.wanted.at_least else row.wanted.bound / got


def _said(table: Table, row: Row) -> str:
    ratio = table.ratio(row)
    got = (
        f"{ratio:.2f} x"
        if row.wanted and row.wanted.of == "ratio" and ratio is not None
        else f"{number(row.value)} {row.unit}"
    )
    return f"{got}  (wanted {row.wanted})"
