"""`citycache migrate`: the schema of this release, and a database role for each process."""

from __future__ import annotations

import click

from backend.app.access import database_roles
from backend.app.database.migrating import migrate


@click.command()
@click.option("--roles", is_flag=True, help="Also make a database role for each process, with least rights.")
def migrate_command(roles: bool) -> None:
    """Bring the database schema to the newest version.

    With --roles, passwords come from CITYCACHE_MIGRATE_PASSWORD, CITYCACHE_API_PASSWORD, CITYCACHE_RELAY_PASSWORD,
    CITYCACHE_WORKER_PASSWORD, CITYCACHE_BEAT_PASSWORD and CITYCACHE_OBSERVER_PASSWORD; one that is not set stays.
    """
    click.echo(migrate())
    if roles:
        _grant()


def _grant() -> None:
    given = database_roles.passwords()
    database_roles.grant(given)
    for role in database_roles.ROLES:
        told = "password set" if role in given else f"password unchanged, {database_roles.variable(role)} is not set"
        click.echo(f"citycache_{role}: rights granted, {told}")
