"""Connections to PostgreSQL: one engine a process, made at first use and made anew after a fork.

Every connection has deadlines: for connecting, for a statement, for a dead peer, and for a transaction left open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg2
import psycopg2.errors
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from backend.app.catalog import definition
from backend.app.errors import BadSetting, DatabaseAway, TooLong
from backend.app.settings import settings

CONNECT_SECONDS = 2  # libpq takes no less
STATEMENT_MS = 60_000  # a patch takes milliseconds; whoever needs longer says so for its transaction
IDLE_TRANSACTION_MS = 120_000  # a transaction that nobody ends holds back vacuum for all
DEAD_PEER = {  # a peer that is gone without a word is noticed within about 15 s
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

LONG_STATEMENT_MS = 1_800_000  # of one that looks at whole tables, which may be of any size
TOO_LONG = ("57014", "55P03", "25P04")  # SQLSTATEs of a deadline: of a statement, of a lock, of a transaction
FAULTS_OF_A_STATEMENT = (  # operational errors, says the driver, but the server is well
    psycopg2.errors.QueryCanceled,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.TransactionRollbackError,
    psycopg2.errors.ProgramLimitExceeded,
    psycopg2.errors.ObjectNotInPrerequisiteState,
)

_engines: dict[int, Engine] = {}  # by process id: a forked child must not use its parent's sockets


def url() -> str:
    """The SQLAlchemy URL; raises BadSetting when DATABASE_URL is not set."""
    if not settings().database_url:
        raise BadSetting("DATABASE_URL is not set: set it, or start everything with 'citycache up'")
    return settings().database_url


def search_path() -> str:
    """The schemas in which names are looked for, as SQL writes it: everything of ours lives in the first one."""
    return definition.current().search_path


def arguments(name: str, statement_ms: int = STATEMENT_MS) -> dict[str, Any]:
    """Keyword arguments for psycopg2.connect: deadlines and the name that pg_stat_activity shows."""
    path = search_path().replace("\\", "\\\\").replace(" ", "\\ ")
    options = (
        f"-c search_path={path} -c statement_timeout={statement_ms}"
        f" -c idle_in_transaction_session_timeout={IDLE_TRANSACTION_MS}"
        " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3"
    )
    return {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": f"citycache {name}",
        "options": options,
        **DEAD_PEER,
    }


def engine(name: str = "task", statement_ms: int = STATEMENT_MS, size: int = 10) -> Engine:
    """This process's engine; the arguments count at the first call only."""
    pid = os.getpid()
    if pid not in _engines:
        _engines.clear()
        _engines[pid] = create_engine(
            url(),
            pool_size=size,
            max_overflow=size,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,
            pool_use_lifo=True,
            connect_args=arguments(name, statement_ms),
        )
    return _engines[pid]


def dispose() -> None:
    """Close this process's pooled connections."""
    for own in _engines.values():
        own.dispose()
    _engines.clear()


@contextmanager
def translated() -> Iterator[None]:
    """Turn every way in which the driver says that the server is away into DatabaseAway, and that a statement or a
    lock took too long into TooLong."""
    try:
        yield
    except PoolTimeout as failure:
        raise DatabaseAway("no database connection became free in time") from failure
    except (DBAPIError, psycopg2.OperationalError, psycopg2.InterfaceError) as failure:
        if is_too_long(failure):
            raise TooLong(f"the database took too long: {_first_line(failure)}") from failure
        if is_away(failure):
            raise DatabaseAway(f"the database is away: {_first_line(failure)}") from failure
        raise


def is_away(failure: BaseException) -> bool:
    """Whether the failure means that the server was not there, or can serve nobody, rather than that the statement was
    wrong or took too long."""
    origin = failure.orig if isinstance(failure, DBAPIError) else failure
    if isinstance(failure, DBAPIError) and failure.connection_invalidated:
        return True
    if isinstance(origin, FAULTS_OF_A_STATEMENT):
        return False
    return isinstance(origin, (psycopg2.OperationalError, psycopg2.InterfaceError)) or isinstance(
        failure, OperationalError
    )


def is_too_long(failure: BaseException) -> bool:
    """Whether a statement, a transaction or a wait for a lock was cut off by its deadline."""
    origin = failure.orig if isinstance(failure, DBAPIError) else failure
    return getattr(origin, "pgcode", None) in TOO_LONG


def _first_line(failure: BaseException) -> str:
    origin = failure.orig if isinstance(failure, DBAPIError) else failure
    return (str(origin).strip() or type(origin).__name__).splitlines()[0]


@contextmanager
def transaction() -> Iterator[Connection]:
    """One READ COMMITTED transaction, committed at the end; raises DatabaseAway when the server is away."""
    with translated(), engine().begin() as connection:
        yield connection


def may_take_long(connection: Connection) -> None:
    """Statements of this transaction look at whole tables."""
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {LONG_STATEMENT_MS}")


@contextmanager
def snapshot() -> Iterator[Connection]:
    """One read-only REPEATABLE READ transaction: every statement in it sees the same state."""
    with translated(), engine().connect() as connection:
        connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            yield connection


def direct(name: str, statement_ms: int = STATEMENT_MS) -> psycopg2.extensions.connection:
    """A connection of its own, in autocommit, for session locks; raises DatabaseAway."""
    parsed = make_url(url())
    with translated():
        connection = psycopg2.connect(
            parsed.set(drivername="postgresql").render_as_string(hide_password=False), **arguments(name, statement_ms)
        )
    connection.autocommit = True
    return cast("psycopg2.extensions.connection", connection)


def migrate() -> None:
    """Bring the schema to the newest version; safe to run from several processes at once."""
    from alembic import command
    from alembic.config import Config

    command.upgrade(Config(str(Path(__file__).parents[1] / "alembic.ini")), "head")
