"""Tables for people, JSON for scripts, Markdown for the README."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table as Screen

from benchmarks.measure import Row, Table

RESULTS: Final = Path(__file__).parent / "results"
COLUMNS: Final = ("", "median", "spread", "beside", "ratio", "wanted", "")


def show(table: Table) -> None:
    """Print one table."""
    screen = Screen(title=f"{table.name}: {table.title}", title_justify="left")
    for column in COLUMNS:
        screen.add_column(column, justify="left" if column in ("", "beside") else "right")
    for row in table.rows:
        screen.add_row(*_cells(table, row))
    console = Console(width=None if os.isatty(1) else 170)
    if table.skipped:
        console.print(f"{table.name}: skipped, {table.skipped}")
    else:
        console.print(screen)
    for note in table.notes:
        console.print(f"  {note}")


def write(table: Table, quick: bool, file: Path | None = None) -> Path:
    """Write one table as JSON."""
    path = file or RESULTS / f"{table.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table.as_dict() | _circumstances(quick), indent=1, default=str), encoding="utf-8")
    return path


def read(names: Sequence[str], quick: bool) -> list[Table]:
    """The newest tables of these names, quick or full ones, as they were written."""
    paths = [path for name in names if (path := RESULTS / f"{name}.json").exists()]
    said = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [Table.from_dict(table) for table in said if table["quick"] == quick]


def markdown(tables: Sequence[Table], quick: bool) -> str:
    """All tables as one Markdown table."""
    facts = _circumstances(quick)
    lines = [
        f"Measured {facts['measured_at'][:10]} on {facts['cpus']} CPUs{', quick run' if quick else ''}.",
        "",
        "| benchmark | figure | median | spread | beside | ratio | wanted | |",
        "|---|---|--:|--:|---|--:|--:|---|",
    ]
    for table in tables:
        if table.skipped:
            lines.append(f"| {table.name} | skipped: {table.skipped} | | | | | | |")
        lines += [f"| {table.name} | {' | '.join(_cells(table, row))} |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _cells(table: Table, row: Row) -> list[str]:
    ratio, reached = table.ratio(row), table.reached(row)
    more = ", ".join(f"{name} {number(value)}" for name, value in row.more.items())
    mark = {None: "", True: "reached", False: "NOT reached"}[reached]
    return [
        row.what,
        f"{number(row.value)} {row.unit}",
        f"±{row.spread:.0%}" if len(row.samples) > 1 else "",
        row.against,
        f"{ratio:.2f} x" if ratio is not None else "",
        str(row.wanted or ""),
        "; ".join(part for part in (mark, more) if part),
    ]


def number(value: float) -> str:
    """Three figures that mean something, thousands separated."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _circumstances(quick: bool) -> dict[str, Any]:
    return {
        "quick": quick,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
