"""What every session is asked for, whatever ALTER DATABASE, ALTER ROLE or the server's file say.

The results of our statements must not depend on anybody's defaults. A session also has to be one's own: locks and
settings last as long as it does. Behind a pooler that hands out sessions by the transaction they do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg2.errors
import psycopg2.extensions

from backend.app.errors import DatabaseUnfit
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
IDLE_TRANSACTION_MS: Final = 10_000  # of whoever is suspended: others wait for its locks, and vacuum for its end

ASKED: Final = {
    # Transactions. A patch reads the truth after it has its locks: true at READ COMMITTED only.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "session_replication_role": "origin",  # else no trigger captures what is written here
    "row_security": "off",  # rows that a policy would hide are an error, not an empty answer
    # Deadlines; that of statements is each connection's own.
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_MS}ms",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    # How values are written and read.
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    "escape_string_warning": "on",
    "backslash_quote": "safe_encoding",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmlbinary": "base64",
    "xmloption": "content",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    # How statements are run.
    "exit_on_error": "off",
    "restrict_nonsystem_relation_kind": "",
    "check_function_bodies": "on",
    "plan_cache_mode": "auto",
    "jit": "off",  # our statements are short, and compiling one takes longer than most run
    "synchronous_commit": "on",  # an event is acknowledged when its patch is safe, on a synchronous standby too
}
ALSO_ACCEPTED: Final = {"synchronous_commit": ("remote_write", "remote_apply")}  # of those that wait for a standby

TRANSACTION_POOLER: Final = (
    "DATABASE_URL leads through a pooler that gives a session to others after each transaction: set pool_mode = session"
    " in PgBouncer, or name the server itself. The relay's leader lock and single flight are locks of a session"
)
UNCLEANED_POOLER: Final = (
    "DATABASE_URL leads through a pooler that hands on sessions as others left them: set pool_mode = session and"
    " server_reset_query = DISCARD ALL in PgBouncer, or name the server itself. Locks of a session would outlive it"
)


def begin(connection: psycopg2.extensions.connection, statement_ms: int, search_path: str) -> str:
    """Ask for everything, on a connection in autocommit; the session's mark. Raises DatabaseUnfit."""
    mark = str(uuid4())
    with connection.cursor() as cursor:
        cursor.execute(SQL["mark"], {"mark": mark, "statement_timeout": f"{statement_ms}ms"})
        _, earlier, _ = cursor.fetchone() or ("", "", "")
        if earlier:
            raise DatabaseUnfit(UNCLEANED_POOLER)
    ask(connection, search_path)
    check(connection, mark)
    return mark


def check(connection: psycopg2.extensions.connection, mark: str) -> None:
    """Raise DatabaseUnfit unless this connection still has the session that it marked."""
    with connection.cursor() as cursor:
        cursor.execute(SQL["marked"])
        if cursor.fetchone() != (mark,):
            raise DatabaseUnfit(TRANSACTION_POOLER)


def ask(connection: psycopg2.extensions.connection, search_path: str) -> None:
    """Ask for every setting on which a result could depend. Raises DatabaseUnfit."""
    with connection.cursor() as cursor:
        _ask(cursor, ASKED | {"search_path": search_path})


def _ask(cursor: psycopg2.extensions.cursor, asked: dict[str, str]) -> None:
    accepted = ["|".join((value, *ALSO_ACCEPTED.get(name, ()))) for name, value in asked.items()]
    parameters: dict[str, Any] = {"names": list(asked), "values": list(asked.values()), "accepted": accepted}
    try:
        cursor.execute(SQL["ask"], parameters)
    except psycopg2.errors.InsufficientPrivilege as failure:
        reason = str(failure).splitlines()[0]
        raise DatabaseUnfit(
            f"the server's defaults for this role do not fit, and it may not change them: {reason}"
        ) from failure
