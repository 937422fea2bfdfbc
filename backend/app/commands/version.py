"""`citycache version`: this release, the schema that it wants, and what the database has."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from backend import __version__
from backend.app import db
from backend.app.commands.data_dir import of_a_running_up
from backend.app.commands.exit_codes import NO
from backend.app.database import schema
from backend.app.errors import DatabaseAway
from backend.app.settings import settings


@click.command()
@of_a_running_up
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def version_command(as_json: bool) -> None:
    """Show the release, the schema that it wants, and what the database has.

    Exit code 1 when DATABASE_URL names a database that does not answer.
    """
    told: dict[str, Any] = {"release": __version__, "schema_revision": schema.needed().revision, "database": None}
    failure = None
    try:
        told["database"] = _database()
    except DatabaseAway as away:
        failure = str(away)
    click.echo(json.dumps(told) if as_json else "\n".join(_sentences(told)))
    if failure:
        click.echo(f"citycache: {failure}", err=True)
        sys.exit(NO)


def _database() -> dict[str, Any] | None:
    """What the database that is named has; None where none is named."""
    if not settings().database_url:
        return None
    with db.transaction() as connection:
        found = schema.found(connection)
    return {"schema_revision": found.revision, "release": found.release, "advice": _advice(found.revision)}


def _advice(revision: str | None) -> str | None:
    needed = schema.needed()
    if needed.is_older(revision):
        return "The schema is too old for this release: run citycache migrate."
    if needed.is_newer(revision):
        return "The schema is newer than this release, which runs on it."
    return None


def _sentences(told: dict[str, Any]) -> Iterator[str]:
    yield f"citycache {told['release']}, made for schema {told['schema_revision']}"
    if found := told["database"]:
        by = f", brought there by release {found['release']}" if found["release"] else ""
        yield f"database: schema {found['schema_revision'] or 'none'}{by}"
        if found["advice"]:
            yield found["advice"]
