"""How a benchmark is written and run: a function from a bench to a table, and a command for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from benchmarks import report
from benchmarks.measure import Table
from benchmarks.servers import Servers, servers

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """What a benchmark gets."""

    servers: Servers
    quick: bool

    def pick(self, full: T, quick: T) -> T:
        """One of two sizes."""
        return quick if self.quick else full

    def say(self, sentence: str) -> None:
        """Tell the person what goes on."""
        click.echo(f"  {sentence}", err=True)


Figure = Callable[[Bench], Table]


def main(figure: Figure) -> None:
    """The command of one benchmark: `python -m benchmarks.NAME [--quick] [--json FILE]`."""

    @click.command(help=(sys.modules[figure.__module__].__doc__ or "").strip())
    @click.option("--quick", is_flag=True, help="Small and short, to see that it runs.")
    @click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the numbers.")
    def command(quick: bool, file: Path | None) -> None:
        with servers() as started:
            table = figure(Bench(started, quick))
        report.show(table)
        click.echo(f"  written to {report.write(table, quick, file)}")

    command()
