"""`citycache replay`: a replay in the foreground, written down in the ledger like any other run."""

from __future__ import annotations

import json
import sys
from typing import Any
from uuid import UUID, uuid4

import click
from rich.console import Console
from rich.progress import Progress

from backend.app.commands.data_dir import of_a_running_up
from backend.app.commands.terminal import OFFSET
from backend.app.errors import CitycacheError, NotFound, Refused, Unprocessable
from backend.app.ledger import ledger
from backend.app.tasks.replay import ReplayRange, replay
from backend.app.tasks.roster import REPLAY
from backend.app.tasks.single_flight import flight
from backend.app.tasks.task import waiting_for_database
from events.errors import EventError


@click.command()
@of_a_running_up
@click.option("--since", default=None, help="From this instant on, like 2026-01-31T12:00:00Z.")
@click.option("--until", default=None, help="Up to this instant.")
@click.option("--from-offset", default=None, type=OFFSET, help="From this offset of the log on.")
@click.option("--dry-run", is_flag=True, help="Write nothing; show what would change.")
@click.option("--resume", default=None, type=click.UUID, help="Go on with a replay that was killed; its run's id.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def replay_command(
    since: str | None, until: str | None, from_offset: int | None, dry_run: bool, resume: UUID | None, as_json: bool
) -> None:
    """Read events from the log again and patch their keys."""
    arguments: dict[str, Any] = {"since": since, "until": until, "from_offset": from_offset, "dry_run": dry_run}
    try:
        request = ReplayRange.parse(**arguments)
        result = _run(request, arguments, resume, quiet=as_json or not sys.stderr.isatty())
    except (Unprocessable, Refused, NotFound) as failure:
        raise click.UsageError(str(failure)) from failure
    _show(result, as_json)


def _run(request: ReplayRange, arguments: dict[str, Any], resume: UUID | None, quiet: bool) -> dict[str, Any]:
    if resume and ledger.run(resume) is None:
        raise NotFound(f"no run has the id {resume}")
    task_id = str(resume or uuid4())
    with flight("replay"), Progress(console=Console(stderr=True), disable=quiet) as bar:
        if not ledger.begin(task_id, REPLAY.name, "cli", arguments):
            raise Unprocessable(f"run {task_id} has ended already")
        click.echo(f"run {task_id}", err=True)
        line = bar.add_task("replay", total=None)

        def report(state: dict[str, Any]) -> None:
            ledger.progress(task_id, state)
            text = f"{state['events']:,} events, {state['events_per_second']:,}/s, {state['eta_seconds']:.0f} s left"
            bar.update(line, description=text)

        try:
            result = waiting_for_database(replay)(request, task_id, report)
        except (CitycacheError, EventError) as failure:
            ledger.finish(task_id, "FAILURE", error=str(failure))
            raise
        ledger.finish(task_id, "SUCCESS", result=result)
    return {"task_id": task_id, **result}


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, default=str))
        return
    if not result["events"]:
        click.echo("the log holds no event in the asked range")
        return
    offsets = f"offsets {result['first_offset']} to {result['last_offset']}"
    click.echo(f"{result['events']:,} events of {offsets}, {result['keys']:,} keys")
    if not result["dry_run"]:
        click.echo(f"{result['rows_changed']:,} rows changed")
        return
    for table, number in result["would_change"].items():
        click.echo(f"{table}: {number:,} rows would change")
    for row in result["rows"]:
        click.echo(f"  {row['table']} {row['key']}: {row['before']} → {row['after']}")
