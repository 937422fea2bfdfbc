"""Database roles with least rights, an option of `citycache migrate`; `roles.sql` says what each may do.

Passwords come from the environment, CITYCACHE_API_PASSWORD and so on, and reach the server as SCRAM verifiers only,
so that no log of its statements holds one. Roles belong to the whole server: two databases of one server share them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from backend.app import db
from backend.app.catalog import definition
from backend.app.errors import Refused
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
ROLES: Final = ("migrate", "api", "relay", "worker", "beat", "observer")
STEPS: Final = (
    "own", "grant_all", "grant_api", "grant_relay", "grant_writers_of_caches", "grant_worker", "grant_beat",
    "grant_observer",
)  # fmt: skip
STATEMENT_MS: Final = 60_000


def variable(role: str) -> str:
    """The environment variable of a role's password."""
    return f"CITYCACHE_{role.upper()}_PASSWORD"


def passwords() -> dict[str, str]:
    """Those that the environment has."""
    return {role: given for role in ROLES if (given := os.environ.get(variable(role)))}


def grant(given: Mapping[str, str]) -> None:
    """Make the roles, set these passwords, give and take rights, all at once or not at all; safe to run again.

    Raises DatabaseAway, and Refused where the user may not do it.
    """
    if definition.current().is_adopted:
        raise Refused("the roles are those of the built-in catalog: beside an adopted one its owner gives the rights")
    try:
        with closing(db.direct("roles", STATEMENT_MS)) as connection, db.translated():
            connection.autocommit = False
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('citycache roles'))")
                cursor.execute(SQL["create"])
                for role, password in given.items():
                    _set_password(connection, cursor, f"citycache_{role}", password)
                for step in STEPS:
                    cursor.execute(SQL[step])
    except psycopg2.errors.InsufficientPrivilege as failure:
        raise Refused(f"this needs a superuser, or the right CREATEROLE: {str(failure).splitlines()[0]}") from failure


def _set_password(
    connection: psycopg2.extensions.connection, cursor: psycopg2.extensions.cursor, role: str, password: str
) -> None:
    verifier = encrypt_password(password, role, connection, "scram-sha-256")
    command = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
    cursor.execute(command)
