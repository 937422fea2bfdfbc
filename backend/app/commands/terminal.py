"""Tables for a terminal: whatever its width, nothing is cut, and foreign text is shown as it is written. Numbers and
bytes that an operator may give."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any, BinaryIO, Final

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

ROW_ID: Final = click.IntRange(-(2**63), 2**63 - 1)
OFFSET: Final = click.IntRange(0, 2**63 - 1)  # of the log
STRANGE = "\N{REPLACEMENT CHARACTER}"  # for what would steer the terminal


class Number(click.FloatRange):
    """A number of a range; nan is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is no number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


def standard_input() -> BinaryIO:
    """Its bytes. Raises UsageError where it is closed."""
    if sys.stdin is None:
        raise click.UsageError("there is nothing to read: standard input is closed")
    return sys.stdin.buffer


def print_table(head: Iterable[str], rows: Iterable[Iterable[object]], whole: Iterable[str] = ()) -> None:
    """Print rows; columns named in `whole` are never broken, others go on in the next line."""
    whole = set(whole)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold", no_wrap=name in whole)
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    Console().print(table)


def shown(value: object) -> str:
    """As text; None as nothing."""
    return "" if value is None else "".join(one if one.isprintable() else STRANGE for one in str(value))
