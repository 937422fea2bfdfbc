"""The command line. Exit codes: 0 well, 1 the answer is no, 2 wrong use or bad input."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import click
from psycopg2.errors import InsufficientPrivilege
from sqlalchemy.exc import DBAPIError

from backend.app.errors import BadDefinition, BadSetting, CitycacheError, DatabaseUnfit, StatementFailed
from backend.app.settings import settings
from backend.app.telemetry import logs
from backend.embedded.errors import EmbeddedError
from events.errors import EventError

NO, WRONG = 1, 2
SENTENCE = 300  # letters, more than any has
RIGHTS = (
    "the database role of this process has other duties. Import and writes run where the API does, rebuilds, replays"
    " and verify where the worker does, migrate in its own container (SECURITY.md says which role may do what)"
)
COMMANDS = {  # those that live in a module of their own, loaded when they are asked for
    "import": "backend.app.commands.importing:import_command",
    "preview": "backend.app.commands.preview:preview_command",
    "replay": "backend.app.commands.replay:replay_command",
    "dead-letters": "backend.app.commands.dead_letters:dead_letters_command",
    "adopt": "backend.app.adopting.commands:adopt_command",
    "release": "backend.app.adopting.commands:release_command",
    "doctor": "backend.app.adopting.commands:doctor_command",
    "bench": "benchmarks.command:bench_command",
    "version": "backend.app.commands.version:version_command",
}


class Commands(click.Group):
    """A group that imports a command's module only when it is used, so that each starts quickly."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All that are installed: an image has no benchmarks."""
        return sorted({*super().list_commands(context), *filter(_is_installed, COMMANDS)})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """One of them."""
        if name not in COMMANDS or not _is_installed(name):
            return super().get_command(context, name)
        module, attribute = COMMANDS[name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its first sentence, whole whatever the terminal's width."""
        commands = ((name, self.get_command(context, name)) for name in self.list_commands(context))
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(SENTENCE)) for name, command in commands if command])


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(COMMANDS[name].partition(".")[0]) is not None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """City caches of a marketplace catalog: run them, watch them, prove them right."""


@group.command()
@click.option("--port", default=8000, show_default=True, help="Port of the API.")
@click.option(
    "--data-dir", default=".citycache", show_default=True, type=click.Path(path_type=Path), help="Where all data is."
)
@click.option("--database-url", default=None, help="A PostgreSQL to use instead of an embedded one.")
@click.option("--broker-url", default=None, help="A RabbitMQ to use instead of a private node; memory:// for none.")
@click.option("--demo", is_flag=True, help="Play the real feed, slowly, so that one sees the caches move.")
def up(port: int, data_dir: Path, database_url: str | None, broker_url: str | None, demo: bool) -> None:
    """Run everything on this machine until Ctrl-C."""
    from backend.embedded.up import up as run

    sys.exit(run(port=port, data_dir=data_dir, database_url=database_url, broker_url=broker_url, demo=demo))


@group.command()
@click.option(
    "--data-dir", default=None, type=click.Path(path_type=Path), help="Of a running `up`.  [default: .citycache]"
)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show how all is: addresses, processes, and how far the caches lag behind.

    Where no `up` runs, as in a container, the servers of DATABASE_URL and CELERY_BROKER_URL are asked.
    """
    from backend.app.commands.status import show
    from backend.app.commands.status import status as read

    found = read(data_dir)
    show(found, as_json)


@group.command()
@click.option("--roles", is_flag=True, help="Also make a database role for each process, with least rights.")
def migrate(roles: bool) -> None:
    """Bring the database schema to the newest version.

    With --roles, passwords come from CITYCACHE_MIGRATE_PASSWORD, CITYCACHE_API_PASSWORD, CITYCACHE_RELAY_PASSWORD,
    CITYCACHE_WORKER_PASSWORD, CITYCACHE_BEAT_PASSWORD and CITYCACHE_OBSERVER_PASSWORD; one that is not set stays.
    """
    from backend.app.access import database_roles as rights
    from backend.app.database.schema import migrate as run

    click.echo(run())
    if roles:
        given = rights.passwords()
        rights.grant(given)
        for role in rights.ROLES:
            told = "password set" if role in given else f"password unchanged, {rights.variable(role)} is not set"
            click.echo(f"citycache_{role}: rights granted, {told}")


@group.command()
def observe() -> None:
    """Run canary, auditor and history apart from the API, which then has OBSERVER=false."""
    from backend.app.observing.process import run

    run()


@group.command()
def relay() -> None:
    """Publish committed events from the outbox to the exchange; any number may run, one leads."""
    from backend.app.relay.process import run

    run()


@group.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--wait", default=0.0, help="Seconds to look again while events may be under way.")
def verify(as_json: bool, wait: float) -> None:
    """Compare every cache with the catalog, in one snapshot."""
    from backend.app.commands.verify import show
    from backend.app.commands.verify import verify as compare

    agrees, report = compare(wait)
    show(report, as_json, agrees)
    sys.exit(0 if agrees else NO)


def fail(sentence: str, code: int) -> None:
    """End with a sentence on standard error."""
    click.echo(f"citycache: {sentence}", err=True)
    sys.exit(code)


def main(arguments: list[str] | None = None) -> Any:
    """The entry point `citycache`."""
    try:
        logs.configure(settings().log_format, settings().log_level)
        group(arguments, prog_name="citycache")
    except (BadSetting, BadDefinition, DatabaseUnfit, StatementFailed) as failure:
        fail(str(failure), WRONG)
    except (CitycacheError, EmbeddedError, EventError) as failure:
        fail(str(failure), NO)
    except (DBAPIError, InsufficientPrivilege) as failure:
        lacking = failure.orig if isinstance(failure, DBAPIError) else failure
        if not isinstance(lacking, InsufficientPrivilege):
            raise
        fail(f"{str(lacking).splitlines()[0]}: {RIGHTS}", NO)
    except KeyboardInterrupt:
        fail("interrupted", 130)


def echo_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, default=str))


if __name__ == "__main__":
    main()
