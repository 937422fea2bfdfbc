"""The command line. Exit codes: 0 well, 1 the answer is no, 2 wrong use or bad input."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress
from typing import Any

import click
import psycopg2.errors
from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.commands import data_dir
from backend.app.commands.exit_codes import INTERRUPTED, NO, WRONG
from backend.app.database import schema
from backend.app.errors import (
    BadDefinition,
    BadSetting,
    CitycacheError,
    DatabaseUnfit,
    StatementFailed,
    is_of_their_making,
    sentence,
)
from backend.app.settings import settings
from backend.app.telemetry import logs
from events.errors import EventError

SENTENCE = 300  # letters, more than any has
RIGHTS = (
    "the database role of this process has other duties. Import and writes run where the API does, rebuilds, replays"
    " and verify where the worker does, migrate in its own container (SECURITY.md says which role may do what)"
)
MISSING = (
    psycopg2.errors.UndefinedTable,
    psycopg2.errors.UndefinedColumn,
    psycopg2.errors.UndefinedFunction,
    psycopg2.errors.InvalidSchemaName,
)
UNMIGRATED = (
    "the database has no schema of this release: run citycache migrate, or name the definition in CATALOG_FILE where"
    " its caches are adopted"
)
COMMANDS = {  # name → where it lives; loaded when it is asked for
    "adopt": "backend.app.adopting.commands:adopt_command",
    "bench": "benchmarks.command:bench_command",
    "dead-letters": "backend.app.commands.dead_letters:dead_letters_command",
    "doctor": "backend.app.adopting.commands:doctor_command",
    "import": "backend.app.commands.importing:import_command",
    "migrate": "backend.app.commands.migrate:migrate_command",
    "observe": "backend.app.commands.processes:observe_command",
    "preview": "backend.app.commands.preview:preview_command",
    "relay": "backend.app.commands.processes:relay_command",
    "release": "backend.app.adopting.commands:release_command",
    "replay": "backend.app.commands.replay:replay_command",
    "status": "backend.app.commands.status:status_command",
    "up": "backend.embedded.command:up_command",
    "verify": "backend.app.commands.verify:verify_command",
    "version": "backend.app.commands.version:version_command",
}


class Commands(click.Group):
    """A group that imports a command's module only when it is used, so that each starts quickly."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All that are installed: an image has no benchmarks."""
        return list(filter(_is_installed, COMMANDS))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """One of them."""
        if name not in COMMANDS or not _is_installed(name):
            return None
        module, attribute = COMMANDS[name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of these arguments, once its servers are found."""
        if arguments and arguments[0] in data_dir.TAKING_IT:
            data_dir.find(arguments[1:])
        return super().resolve_command(context, arguments)

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


def fail(sentence: str, code: int) -> None:
    """End with a sentence on standard error."""
    with suppress(OSError):
        click.echo(f"citycache: {sentence}", err=True)
    sys.exit(code)


def _run(arguments: list[str] | None) -> None:
    """One command, and all that it has printed."""
    try:
        group(arguments, prog_name="citycache")
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()


def _give_up_output() -> None:
    """What could not be written would be tried again at the end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: list[str] | None = None) -> Any:
    """The entry point `citycache`."""
    try:
        logs.configure(settings().log_format, settings().log_level)
        _run(arguments)
    except (BadSetting, BadDefinition, DatabaseUnfit, StatementFailed) as failure:
        fail(str(failure), WRONG)
    except (CitycacheError, EventError) as failure:
        fail(str(failure), NO)
    except (DBAPIError, psycopg2.Error) as failure:
        if is_of_their_making(failure):
            fail(f"PostgreSQL refuses: {sentence(failure)}. Nothing that was committed before is lost", NO)
        advice = _advice(failure.orig if isinstance(failure, DBAPIError) else failure)
        if advice is None:
            raise
        fail(f"{sentence(failure)}: {advice}", NO)
    except UnicodeEncodeError:
        fail("an argument is not UTF-8", WRONG)
    except OSError as failure:
        _give_up_output()
        place = f"{failure.filename}: " if failure.filename else ""
        fail(f"{place}{failure.strerror or failure}", NO)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


def _advice(failure: BaseException | None) -> str | None:
    if isinstance(failure, psycopg2.errors.InsufficientPrivilege):
        return RIGHTS
    return UNMIGRATED if isinstance(failure, MISSING) and _is_unmigrated() else None


def _is_unmigrated() -> bool:
    with db.transaction() as connection:
        return schema.needed().is_older(schema.found(connection).revision)


if __name__ == "__main__":
    main()
