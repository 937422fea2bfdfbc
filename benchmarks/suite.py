"""All benchmarks on the same servers, one after the other: JSON, a Markdown table and a plot in benchmarks/results."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from typing import Final

import click

from benchmarks import plot, report
from benchmarks.figure import Bench, Figure
from benchmarks.measure import Table
from benchmarks.servers import servers

NAMES: Final = (
    "throughput", "cost", "freshness", "fresh", "reads", "adopted", "writes", "rebuild", "city", "replay", "imports",
    "memory", "growth", "audit", "rest",
)  # fmt: skip


def run(names: Sequence[str] = (), quick: bool = False) -> list[Table]:
    """Run these benchmarks, or all; one that fails is a skipped table with the reason."""
    tables = []
    with servers() as started:
        for name in names or NAMES:
            begun = time.monotonic()
            tables.append(_one(name, Bench(started, quick)))
            report.show(tables[-1])
            report.write(tables[-1], quick)
            click.echo(f"  {time.monotonic() - begun:.0f} s")
    summarize(quick)
    return tables


def summarize(quick: bool) -> None:
    """Write results.md and the plot from the newest table of each benchmark."""
    tables = report.read(NAMES, quick)
    (report.RESULTS / "results.md").write_text(report.markdown(tables, quick), encoding="utf-8")
    plot.draw(tables, report.RESULTS)


def _one(name: str, bench: Bench) -> Table:
    figure: Figure = importlib.import_module(f"benchmarks.{name}").figure
    try:
        return figure(bench)
    except Exception as failure:
        bench.say(f"{name} failed: {failure}")
        return Table(name, "", [], skipped=f"it failed: {type(failure).__name__}: {str(failure).splitlines()[0]}")


if __name__ == "__main__":
    from benchmarks.command import bench_command

    bench_command()
