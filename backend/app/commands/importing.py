"""`citycache import`: apply a change feed, with a progress bar for people and numbers for scripts."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from backend.app import db, garbage_collection
from backend.app.catalog import definition
from backend.app.catalog.feed import importing
from backend.app.catalog.feed.recorded import recorded
from backend.app.commands.data_dir import of_a_running_up
from backend.app.commands.exit_codes import INTERRUPTED, NO, WRONG
from backend.app.commands.terminal import Number, standard_input
from backend.app.errors import BadSetting, CitycacheError, Refused
from backend.app.tasks.single_flight import Skipped, flight

PATIENCE_SECONDS: Final = 600.0  # until an import does not wait for another one any more
TRY_SECONDS: Final = 1.0  # of waiting in one statement, whose snapshot holds back vacuum


@click.command("import", short_help="Apply a change feed to the catalog.")
@of_a_running_up
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--from-line", type=click.IntRange(min=1), default=1, show_default=True, help="Go on from this line.")
@click.option("--rate", type=Number(min=0.001, max=1e9), help="At most this many lines a second.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def import_command(file: Path, from_line: int, rate: float | None, as_json: bool) -> None:
    """Apply FILE, a change feed (.jsonl or .jsonl.gz, '-' for standard input), in transactions of many lines.

    One feed is applied after the other: an import waits for the one before it, for ten minutes at most, but not one
    with --rate, nor for it.
    A bad line stops the import with exit code 2: its transaction is rolled back, all earlier ones are kept, and the
    message says with which --from-line to go on.
    """
    if definition.current().is_adopted:
        _fail("the catalog belongs to another system, which writes it: nothing is imported", WRONG, as_json)
    name = "<stdin>" if str(file) == "-" else str(file)
    garbage_collection.collect_seldom()  # else looking through what is loaded costs a fifth of the import
    try:
        db.engine("import", size=1)
        with _opened(file) as (stream, size), _turn(name, rate), recorded(from_line) as run, _bar(name, size) as bar:

            def progress(read: int, lines: int) -> None:
                bar(read, lines)
                run.report(lines)

            done = importing.import_feed(stream, name, from_line, rate=rate, progress=progress)
            run.succeed(done)
    except importing.BadLine as bad:
        _fail(f"{bad}\n{_kept(bad.done, from_line)}", WRONG, as_json, bad.done)
    except importing.Interrupted as failure:
        code = INTERRUPTED if isinstance(failure.__cause__, KeyboardInterrupt) else NO
        _fail(f"{failure}\n{_kept(failure.done, from_line)}", code, as_json, failure.done)
    except OSError as failure:
        _fail(f"{name}: {failure.strerror or failure}", WRONG, as_json)
    except BadSetting as failure:
        _fail(str(failure), WRONG, as_json)
    except CitycacheError as failure:
        _fail(str(failure), NO, as_json)
    click.echo(json.dumps({"ok": True, **asdict(done)}) if as_json else _sentence(done))


def _sentence(done: importing.Imported) -> str:
    rate = done.lines / done.seconds if done.seconds else 0.0
    return (
        f"{done.lines:,} lines applied in {done.seconds:.1f} s ({rate:,.0f} lines/s): {done.created:,} created, "
        f"{done.updated:,} updated, {done.moved:,} moved, {done.deleted:,} deleted, {done.unchanged:,} without effect"
    )


def _kept(done: importing.Imported, from_line: int) -> str:
    before = f"Lines up to {done.next_line - 1} are applied" if done.next_line > from_line else "Nothing was applied"
    return f"{before}; go on with: --from-line {done.next_line}"


def _fail(message: str, code: int, as_json: bool, done: importing.Imported | None = None) -> NoReturn:
    click.echo(message, err=True)
    if as_json:
        click.echo(json.dumps({"ok": False, "error": message, **(asdict(done) if done else {})}))
    sys.exit(code)


@contextmanager
def _turn(name: str, rate: float | None) -> Iterator[None]:
    """Feeds that tell of the same rows make sense one after the other only. A feed that is played slowly is to be
    seen beside others."""
    with ExitStack() as held:
        waits, until = False, time.monotonic() + PATIENCE_SECONDS
        while rate is None:
            try:
                held.enter_context(flight("import", TRY_SECONDS))
                break
            except Skipped:
                if time.monotonic() > until:
                    raise Refused(
                        f"{name}: another import goes on and on: see that it ends, and run this one"
                    ) from None
                if not waits:
                    click.echo(f"{name}: waits until another import has ended", err=True)
                waits = True
        yield


@contextmanager
def _opened(file: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file, or standard input, and its size in bytes when it has one."""
    if str(file) == "-":
        yield standard_input(), None
        return
    with file.open("rb") as stream:
        yield stream, os.fstat(stream.fileno()).st_size or None


@contextmanager
def _bar(name: str, size: int | None) -> Iterator[importing.Progress]:
    """A progress bar on standard error, where that is a terminal."""
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn(name, markup=False),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[speed]:,.0f} lines/s"),
    ]
    times = [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(*columns, *times, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(name, total=size, speed=0.0)

        def advance(read: int, lines: int) -> None:
            elapsed = progress.tasks[task].elapsed or 0.0
            progress.update(task, completed=read, speed=lines / elapsed if elapsed else 0.0)

        yield advance
