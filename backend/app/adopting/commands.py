"""`citycache adopt`, `release` and `doctor`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from backend.app import db
from backend.app.adopting import adopt as adopting
from backend.app.adopting import release as releasing
from backend.app.adopting.discover import discover
from backend.app.adopting.doctor import Finding, look
from backend.app.adopting.plan import AdoptionPlan, plan
from backend.app.catalog import definition
from backend.app.catalog.definition import Definition
from backend.app.commands.data_dir import of_a_running_up
from backend.app.commands.exit_codes import NO
from backend.app.errors import BadSetting, Refused
from backend.app.settings import settings

STATEMENT_MS = 600_000
STATES = {True: "well", False: "BAD", None: "unknown"}
FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)


@click.command("adopt", short_help="Let the caches follow tables that are there already.")
@FILE
@click.option("--apply", "apply_it", is_flag=True, help="Do it. Safe to kill, and to run again.")
@click.option("--discover", "find_it", is_flag=True, help="Print a commented FILE to start from.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def adopt_command(file: Path | None, apply_it: bool, find_it: bool, as_json: bool) -> None:
    """Show what adopting the tables that FILE defines would do, or do it. FILE is CATALOG_FILE unless it is given.

    Exit code 0: it can be applied, or has been; 1: it cannot, and why; 2: the file is wrong.
    """
    if find_it:
        click.echo(discover(), nl=False)
        return
    chosen = _chosen(file)
    found = plan(chosen)
    if not apply_it:
        click.echo(json.dumps(found.as_dict(), default=str) if as_json else found.as_text())
        sys.exit(0 if found.is_possible else NO)
    _refuse(found)
    filled = adopting.adopt(chosen, _progress)
    click.echo(json.dumps({"adopted": True, **filled}) if as_json else _filled(filled))


@click.command("release", short_help="Let go of adopted tables, and leave no trace.")
@FILE
@click.option("--apply", "apply_it", is_flag=True, help="Do it. Safe to kill, and to run again.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def release_command(file: Path | None, apply_it: bool, as_json: bool) -> None:
    """Show what would be taken away, or take it away: triggers and the schema with all caches and history."""
    chosen = _chosen(file)
    found = releasing.planned(chosen)
    if apply_it:
        releasing.release(chosen, _progress)
    told = "Gone" if apply_it else "To go, with --apply"
    lines = [f"{told}: schema {found['schema']} with everything in it", *(f"  {name}" for name in found["triggers"])]
    click.echo(json.dumps({"released": apply_it, **found}) if as_json else "\n".join(lines))


@click.command("doctor", short_help="Find what breaks silently, and say what to do.")
@of_a_running_up
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def doctor_command(as_json: bool) -> None:
    """Look at triggers, columns, functions, definition, indexes, database and broker. Exit code 1: one is not well."""
    found = look()
    lines = [f"[{STATES[one.is_well]}] {one.name}: {one.found}{_advised(one)}" for one in found]
    states = {one.is_well for one in found}
    is_well = next(state for state in (False, None, True) if state in states)
    told = {"well": is_well, "findings": [asdict(one) for one in found]}
    click.echo(json.dumps(told) if as_json else "\n".join(lines))
    sys.exit(NO if is_well is False else 0)


def _advised(finding: Finding) -> str:
    return f". To do: {finding.advice}" if finding.advice else ""


def _chosen(file: Path | None) -> Definition:
    """The definition, which all connections of this process follow from now on."""
    if file is not None:
        os.environ["CATALOG_FILE"] = str(file.absolute())
        settings.cache_clear()
        definition.current.cache_clear()
    chosen = definition.current()
    if not chosen.is_adopted:
        raise BadSetting(
            "name a definition: citycache adopt FILE, or CATALOG_FILE. The built-in catalog needs `migrate`"
        )
    db.engine("adopt", statement_ms=STATEMENT_MS)
    return chosen


def _refuse(found: AdoptionPlan) -> None:
    if not found.is_possible:
        raise Refused("; ".join(f"{check.name}: {check.found}" for check in found.checks if check.state == "no"))


def _progress(sentence: str) -> None:
    click.echo(sentence, err=True)


def _filled(filled: dict[str, Any]) -> str:
    parts = [f"{numbers['changed']:,} of {numbers['compared']:,} {what}" for what, numbers in filled.items()]
    return f"Adopted. Rows changed in the caches: {', '.join(parts)}."
