"""`citycache preview`: what the caches would become if some statements ran."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from backend.app.commands.data_dir import of_a_running_up
from backend.app.commands.exit_codes import NO
from backend.app.commands.terminal import standard_input
from backend.app.errors import StatementFailed, TooLong
from backend.app.preview.outcome import Preview, preview
from backend.app.preview.trial import TrialLimits

SHOWN: Final = 20  # rows and moves that are named
UNITS: Final = {"": 0.001, "ms": 0.001, "s": 1.0, "min": 60.0}
LONGEST: Final = 3600.0  # seconds


class Duration(click.ParamType[float]):
    """As PostgreSQL writes it: 500ms, 2s, 1min; a bare number means milliseconds. Becomes seconds."""

    name = "duration"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        """Text to seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]{1,9})\s*(ms|s|min)?", value.strip(), re.ASCII)
        seconds = int(found[1]) * UNITS[found[2] or ""] if found else 0.0
        if not 0 < seconds <= LONGEST:
            self.fail(f"{value!r} is no duration: 500ms, 2s or 1min are, up to an hour", parameter, context)
        return seconds


@click.command("preview", short_help="Show what the caches would become if some statements ran.")
@of_a_running_up
@click.argument("sql", required=False)
@click.option(
    "-f", "--file", "file", default=None, metavar="FILE", help="Read the statements from a file; - for stdin."
)
@click.option("--most", default=None, type=click.IntRange(min=0), help="Exit 1 when more rows would change.")
@click.option("--rows", default=SHOWN, show_default=True, type=click.IntRange(0, 1_000_000), help="Rows to name.")
@click.option("--lock-timeout", default=1.0, show_default="1s", type=Duration(), help="Longest wait for a lock.")
@click.option(
    "--statement-timeout",
    default=10.0,
    show_default="10s",
    type=Duration(),
    help="For all of it; then every lock is given up.",
)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def preview_command(
    sql: str | None,
    file: str | None,
    most: int | None,
    rows: int,
    lock_timeout: float,
    statement_timeout: float,
    as_json: bool,
) -> None:
    """Run the statements SQL in a transaction that is always rolled back, and show what the caches would become.

    Rows of each mapping that appear, disappear and move; cities that enter or leave the active lists; the largest
    moves of counts; keys that would be patched. The statements' locks are held until it ends.
    """
    statements = _statements(sql, file)
    try:
        found = preview(statements, TrialLimits(lock_timeout, statement_timeout), rows)
    except TooLong as failure:
        raise StatementFailed(str(failure)) from failure
    click.echo(json.dumps(found.as_dict(), default=str)) if as_json else _show(found)
    sys.exit(NO if most is not None and found.rows_changed > most else 0)


def _statements(sql: str | None, file: str | None) -> str:
    if (sql is None) == (file is None):
        raise click.UsageError("give the statements, or a file with -f, - for standard input")
    text = sql if sql is not None and sql != "-" else _read(file or "-")
    if not text.strip():
        raise click.UsageError("there is no statement")
    if "\0" in text:
        raise click.UsageError("a NUL character cannot be part of a statement")
    return text


def _read(file: str) -> str:
    try:
        return (standard_input().read() if file == "-" else Path(file).read_bytes()).decode()
    except OSError as failure:
        raise click.UsageError(f"{file}: {failure.strerror}") from failure
    except UnicodeDecodeError as failure:
        raise click.UsageError(f"{file}: not UTF-8: {failure}") from failure


def _show(found: Preview) -> None:
    console = Console()
    console.print(_tables(found))
    for cache in found.enter:
        for what, cities in (("enter", found.enter[cache]), ("leave", found.leave[cache])):
            if cities:
                console.print(f"active cities of {cache}: {len(cities):,} {what}: {_first(cities)}")
    for move in found.counts:
        console.print(f"  city {move.city_id}: {_numbers(move.before)} → {_numbers(move.after)}")
    for row in found.rows:
        console.print(f"  {row.table} {row.key}: {row.before} → {row.after}")
    keys = ", ".join(f"{number:,} {noun}" for noun, number in found.keys.items())
    console.print(f"keys to be patched: {'everything: ' if found.everything else ''}{keys}. Nothing was committed.")


def _tables(found: Preview) -> Table:
    table = Table("table", "appear", "disappear", "move")
    for name, sides in found.tables.items():
        table.add_row(name, *(f"{number:,}" for number in sides.values()))
    return table


def _first(cities: list[int]) -> str:
    return ", ".join(map(str, cities[:SHOWN])) + (" …" if len(cities) > SHOWN else "")


def _numbers(row: dict[str, int] | None) -> str:
    return "no row" if row is None else "/".join(map(str, row.values()))
