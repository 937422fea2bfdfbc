"""`citycache verify`: every cache beside the truth, in one snapshot."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import click
from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff
from backend.app.commands.data_dir import of_a_running_up
from backend.app.commands.exit_codes import NO
from backend.app.commands.terminal import Number, print_table

FIRST_ROWS: Final = 5
PAUSE_SECONDS: Final = 0.2  # between two looks
SIDES: Final = ("checked", "missing", "extra", "different")
HEAD: Final = ("table", *SIDES)


@click.command()
@of_a_running_up
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option(
    "--wait",
    type=Number(min=0, max=86_400),
    default=0.0,
    help="Seconds to look again while events may be under way; then only what has differed at every look is wrong.",
)
def verify_command(as_json: bool, wait: float) -> None:
    """Compare every cache with the catalog, in one snapshot."""
    agrees, report = verify(wait)
    show(report, as_json, agrees)
    sys.exit(0 if agrees else NO)


def verify(wait: float) -> tuple[bool, list[dict[str, Any]]]:
    """Whether all caches agree with the catalog, and the numbers by table.

    Differing ones are looked at again for `wait` seconds, since an event may be under way. Where writes never cease, no
    single look may find all of them applied: after that time only what stands is wrong, see `_Looks`.
    """
    deadline = time.monotonic() + wait
    looks = _Looks()
    while True:
        is_last = time.monotonic() >= deadline
        with db.snapshot() as connection:
            db.may_take_long(connection)
            found = {what: diff.compare(connection, what) for what in diff.TABLES}
            if not any(one.keys for one in found.values()):
                return True, _report(connection, found, {})
            standing = looks.standing(connection, found) if wait else found
            if is_last:
                late = {what: len(set(found[what].keys).difference(standing[what].keys)) for what in found}
                return not any(one.keys for one in standing.values()), _report(connection, standing, late)
        time.sleep(min(PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))


@dataclass
class _Looks:
    """What has stood through all looks. A mapping that was right at one of them follows its events. Counts move with
    the mappings and active cities with the counts, so each snapshot has to have them equal, whatever is under way."""

    _differed: dict[str, set[int]] = field(default_factory=dict)  # at every look so far; 'counts': a city's row alone

    def standing(self, connection: Connection, found: dict[str, diff.Difference]) -> dict[str, diff.Difference]:
        """Of what this look has found, what no event under way would explain."""
        rows = self._always("counts", (row.key for row in diff.uncounted(connection)))
        counts = rows.union(row.key for row in diff.counts_beside_mappings(connection))
        return {
            "products": _only(found["products"], self._always("products", found["products"].keys)),
            "companies": _only(found["companies"], self._always("companies", found["companies"].keys)),
            "counts": _only(found["counts"], counts),
            "active": _only(found["active"], set(diff.active_beside_counts(connection))),
        }

    def _always(self, what: str, keys: Iterable[int]) -> set[int]:
        differ = set(keys)
        self._differed[what] = self._differed[what] & differ if what in self._differed else differ
        return self._differed[what]


def _only(found: diff.Difference, keys: set[Any]) -> diff.Difference:
    """These keys alone. One that was not found equals the truth, but not what it has to move with."""
    missing, extra, different = (
        [key for key in side if key in keys] for side in (found.missing, found.extra, found.different)
    )
    return replace(found, missing=missing, extra=extra, different=sorted([*different, *keys.difference(found.keys)]))


def _report(connection: Connection, found: dict[str, diff.Difference], late: dict[str, int]) -> list[dict[str, Any]]:
    report = []
    for what, one in found.items():
        rows = [vars(row) for row in diff.rows(connection, what, one.keys[:FIRST_ROWS])]
        numbers = one.summary() | {"under_way": late.get(what, 0)}
        report.append({"table": one.table, **numbers, "keys": one.keys[:FIRST_ROWS], "rows": rows})
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
        if line["under_way"]:
            print(f"Rows of {line['table']} whose events were under way: {line['under_way']:,}")
    print("All caches agree with the catalog." if agrees else "The caches do not agree with the catalog.")
