"""`citycache verify`: every cache beside the truth, in one snapshot."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from backend.app import db
from backend.app.caches import diff
from backend.app.commands.data_dir import of_a_running_up
from backend.app.commands.exit_codes import NO
from backend.app.commands.terminal import Number, print_table

FIRST_ROWS = 5
SIDES = ("checked", "missing", "extra", "different")
HEAD = ("table", *SIDES)


@click.command()
@of_a_running_up
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option(
    "--wait", type=Number(min=0, max=86_400), default=0.0, help="Seconds to look again while events may be under way."
)
def verify_command(as_json: bool, wait: float) -> None:
    """Compare every cache with the catalog, in one snapshot."""
    agrees, report = verify(wait)
    show(report, as_json, agrees)
    sys.exit(0 if agrees else NO)


def verify(wait: float) -> tuple[bool, list[dict[str, Any]]]:
    """Whether all caches agree with the catalog, and the numbers by table; differing ones are looked at again
    for `wait` seconds, since an event may be under way."""
    deadline = time.monotonic() + wait
    while True:
        report = _compare()
        agrees = not any(table[side] for table in report for side in SIDES[1:])
        if agrees or time.monotonic() >= deadline:
            return agrees, report
        time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))


def _compare() -> list[dict[str, Any]]:
    with db.snapshot() as connection:
        db.may_take_long(connection)
        report = []
        for what, table in diff.TABLES.items():
            found = diff.compare(connection, what)
            rows = [vars(row) for row in diff.rows(connection, what, found.keys[:FIRST_ROWS])]
            report.append({"table": table, **found.summary(), "keys": found.keys[:FIRST_ROWS], "rows": rows})
        return report


def show(report: list[dict[str, Any]], as_json: bool, agrees: bool) -> None:
    """Print for a person or a script."""
    if as_json:
        print(json.dumps({"agrees": agrees, "tables": report}, default=str))
        return
    print_table(HEAD, ([line["table"], *(f"{line[side]:,}" for side in SIDES)] for line in report), whole=HEAD)
    for line in report:
        if line["keys"]:
            print(f"First keys of {line['table']}: {', '.join(map(str, line['keys']))}")
    print("All caches agree with the catalog." if agrees else "The caches do not agree with the catalog.")
