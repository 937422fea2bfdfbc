"""`citycache dead-letters`: list them, count them by reason, send them again."""

from __future__ import annotations

import json
import sys

import click

from backend.app.commands.data_dir import of_a_running_up
from backend.app.commands.terminal import ROW_ID, print_table
from backend.app.dead_letters import letters as dead_letters
from backend.app.dead_letters.requeue import Chosen
from backend.app.dead_letters.requeue import requeue as send_again

REASON = 200  # letters of a reason; `--json` has all of it


@click.group()
@of_a_running_up
def dead_letters_command() -> None:
    """What could not be applied, and why; send it again."""


@dead_letters_command.command("list")
@click.option("--state", type=click.Choice(["open", "closed", "all"]), default="open", show_default=True)
@click.option("--kind", type=click.Choice(dead_letters.KINDS), default=None)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def show(state: str, kind: str | None, limit: int, as_json: bool) -> None:
    """List them, newest first."""
    letters = dead_letters.listed(state=state, kind=kind, limit=limit)
    if as_json:
        click.echo(json.dumps(letters, default=str))
        return
    columns = ("id", "kind", "subject", "reason", "buried_at", "closed_because")
    head = ("id", "kind", "key", "reason", "buried at", "closed because")
    print_table(head, ([str(letter[name] or "")[:REASON] for name in columns] for letter in letters), whole=("id",))


@dead_letters_command.command("reasons")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def reasons(as_json: bool) -> None:
    """Open ones by kind and reason, the most frequent first."""
    found = dead_letters.reasons()
    if as_json:
        click.echo(json.dumps(found, default=str))
        return
    head = ("letters", "kind", "group", "reason", "last")
    rows = ([line["letters"], line["kind"], line["group"], line["reason"][:REASON], line["last"]] for line in found)
    print_table(head, rows, whole=("group",))


@dead_letters_command.command("requeue")
@click.argument("ids", nargs=-1, type=ROW_ID)
@click.option("--reason", default=None, help="All open ones with this reason.")
@click.option("--kind", type=click.Choice(dead_letters.KINDS), default=None, help="All open ones of this kind.")
@click.option("--group", default=None, help="All open ones of this group, as `reasons` names it.")
@click.option("--all", "everything", is_flag=True, help="All open ones.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def requeue(
    ids: tuple[int, ...], reason: str | None, kind: str | None, group: str | None, everything: bool, as_json: bool
) -> None:
    """Send them again: by id, by reason, by kind, by group, or all."""
    if not (ids or reason or kind or group or everything):
        raise click.UsageError("say which: ids, --reason, --kind, --group or --all")
    sent = send_again(Chosen(list(ids) or None, kind, reason, group)).requeued
    click.echo(json.dumps({"requeued": sent}) if as_json else f"{sent} dead letters were sent again.")
    sys.exit(0)
