"""Connections to PostgreSQL: one engine a process, made at first use and made anew after a fork.

Every connection is made by `connect`. It has deadlines: for connecting, for a statement, for a dead peer, and for a
transaction left open; and it is asked for every setting on which a result could depend (`database/session.py`).
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Final, cast

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from backend.app.catalog import definition
from backend.app.database import address, instants, session
from backend.app.errors import BadSetting, DatabaseAway, TooLong
from backend.app.settings import settings

DIALECT: Final = "postgresql+psycopg2://"  # the address is `connect`'s business
CONNECT_SECONDS: Final = 2  # for each host; libpq takes no less
STATEMENT_MS: Final = 60_000  # a patch takes milliseconds; whoever needs longer says so for its transaction
PROOFS: Final = 3  # looks at two sessions of a process that starts
DEAD_PEER: Final = {  # a peer that is gone without a word is noticed within about 15 s
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

POLLED: Final = {psycopg2.extensions.POLL_READ: select.POLLIN, psycopg2.extensions.POLL_WRITE: select.POLLOUT}
LONG_STATEMENT_MS = 1_800_000  # of one that looks at whole tables, which may be of any size
TOO_LONG = ("57014", "55P03", "25P04")  # SQLSTATEs of a deadline: of a statement, of a lock, of a transaction
FAULTS_OF_A_STATEMENT = (  # operational errors, says the driver, but the server is well
    psycopg2.errors.QueryCanceled,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.TransactionRollbackError,
    psycopg2.errors.ProgramLimitExceeded,
    psycopg2.errors.ObjectNotInPrerequisiteState,
)

_engines: dict[tuple[int, str], Engine] = {}  # by process, since a child must not use its parent's sockets, and URL


def url() -> str:
    """DATABASE_URL; raises BadSetting when it is not set."""
    if not settings().database_url:
        raise BadSetting("DATABASE_URL is not set: set it, or start everything with 'citycache up'")
    return settings().database_url


def search_path() -> str:
    """The schemas in which names are looked for, as SQL writes it: everything of ours lives in the first one."""
    return definition.current().search_path


def connect(name: str, statement_ms: int = STATEMENT_MS, to: str = "") -> psycopg2.extensions.connection:
    """A connection in autocommit, to the first host of DATABASE_URL that takes writes, or of `to` for reading only.

    `name` is what pg_stat_activity shows. Raises the driver's errors, and DatabaseUnfit.
    """
    return _marked(name, statement_ms, to)[0]


def polled(name: str, statement_ms: int, first: str) -> psycopg2.extensions.connection:
    """A connection for an event loop, on which `first` has been run: `execute` only sends a statement, and its rows are
    there when `poll()` says so. Raises the driver's errors, and DatabaseUnfit."""
    with closing(connect(name, statement_ms)) as found:  # libpq leaves a host that is silent only where it waits itself
        place = {"host": found.info.host, "port": found.info.port}
    wishes = _wishes(name, url(), address.WRITES)
    wishes |= {"async_": True} if "hostaddr" in wishes else {"async_": True, **place}
    connection = cast("psycopg2.extensions.connection", psycopg2.connect(**wishes))
    try:
        _wait(connection)
        connection.cursor_factory = _Blocking
        session.begin(connection, statement_ms, search_path())
        connection.cursor().execute(first)
        connection.cursor_factory = psycopg2.extensions.cursor
    except BaseException:
        connection.close()
        raise
    return connection


class _Blocking(psycopg2.extensions.cursor):
    def execute(self, *statement: Any) -> None:
        super().execute(*statement)
        _wait(self.connection)


def _wait(connection: psycopg2.extensions.connection) -> None:
    """At most CONNECT_SECONDS, however often something comes. Raises psycopg2.Error."""
    end = time.monotonic() + CONNECT_SECONDS
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        if state not in POLLED:
            raise psycopg2.OperationalError(f"the driver cannot go on with the connection (state {state})")
        watcher = select.poll()
        watcher.register(connection.fileno(), POLLED[state])
        if (left := end - time.monotonic()) <= 0 or not watcher.poll(left * 1000):
            raise psycopg2.OperationalError("timeout expired")


def _wishes(name: str, to: str, attributes: str) -> dict[str, Any]:
    return {
        **address.parameters(to, attributes),
        "connect_timeout": CONNECT_SECONDS,
        "application_name": f"citycache {name}",
        "client_encoding": "UTF8",  # psycopg2 looks at it while it connects
        **DEAD_PEER,
    }


def _marked(name: str, statement_ms: int, to: str = "") -> tuple[psycopg2.extensions.connection, str]:
    wishes = _wishes(name, to or url(), address.READS if to else address.WRITES)
    connection = cast("psycopg2.extensions.connection", psycopg2.connect(**wishes))
    try:
        connection.autocommit = True
        instants.read_all(connection)
        return connection, session.begin(connection, statement_ms, search_path())
    except BaseException:
        connection.close()
        raise


def prove() -> None:
    """Show that sessions of this process are its own. Raises DatabaseUnfit where they are not, and DatabaseAway."""
    with translated():
        first, mark = _marked("start", STATEMENT_MS)
        with closing(first):
            second, other = _marked("start", STATEMENT_MS)
            with closing(second):
                for _ in range(PROOFS):
                    session.check(first, mark)
                    session.check(second, other)


def make_engine(name: str, statement_ms: int = STATEMENT_MS, to: str = "", **pool: Any) -> Engine:
    """An engine on connections of `connect`, for reading only where `to` is given; `pool` goes to SQLAlchemy."""

    def connection() -> psycopg2.extensions.connection:
        made = connect(name, statement_ms, to)
        made.autocommit = False
        return made

    made = create_engine(DIALECT, creator=connection, **pool)
    made.dialect.do_ping = partial(_ping, made.dialect.do_ping)  # type: ignore[method-assign]
    event.listen(made, "handle_error", _leave_standby)
    return made


def _ping(ask: Callable[[Any], bool], connection: psycopg2.extensions.connection) -> bool:
    """Whether a pooled connection is still there. Its end is heard, without a question."""
    watcher = select.poll()
    watcher.register(connection.fileno(), select.POLLIN)
    return ask(connection) if watcher.poll(0) else True


def _leave_standby(context: ExceptionContext) -> None:
    """A transaction that should write and may not is on a server that is no primary: that connection is of no use."""
    if is_standby(context.original_exception):
        raw = context.connection and context.connection.connection.dbapi_connection
        if raw is not None and not cast("psycopg2.extensions.connection", raw).readonly:
            context.is_disconnect = True


def engine(name: str = "task", statement_ms: int = STATEMENT_MS, size: int = 10, to: str = "") -> Engine:
    """This process's engine, or the one that reads from `to`; the other arguments count at the first call only."""
    key = (os.getpid(), to)
    if key not in _engines:
        for inherited in [other for other in _engines if other[0] != key[0]]:
            del _engines[inherited]
        _engines[key] = make_engine(
            name,
            statement_ms,
            to,
            pool_size=size,
            max_overflow=size,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,
            pool_use_lifo=True,
        )
    return _engines[key]


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
    except (DBAPIError, psycopg2.Error) as failure:
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
    if is_standby(failure):  # plain connections only write
        return True
    if isinstance(origin, FAULTS_OF_A_STATEMENT):
        return False
    return isinstance(origin, (psycopg2.OperationalError, psycopg2.InterfaceError)) or isinstance(
        failure, OperationalError
    )


def is_standby(failure: BaseException | None) -> bool:
    """Whether the server itself refused to write; a trigger that raises the same code speaks of one row."""
    if not isinstance(failure, psycopg2.errors.ReadOnlySqlTransaction):
        return False
    return failure.diag.source_function != "exec_stmt_raise"


def is_too_long(failure: BaseException) -> bool:
    """Whether a statement, a transaction or a wait for a lock was cut off by its deadline."""
    origin = failure.orig if isinstance(failure, DBAPIError) else failure
    return getattr(origin, "pgcode", None) in TOO_LONG


def is_rollback(failure: BaseException | None) -> bool:
    """Whether the server gave the transaction up for another's sake: the same again may succeed."""
    origin = failure.orig if isinstance(failure, DBAPIError) else failure
    return isinstance(origin, psycopg2.errors.TransactionRollbackError)


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
def snapshot(to: str = "") -> Iterator[Connection]:
    """One read-only REPEATABLE READ transaction, on `to` where given: every statement in it sees the same state."""
    with translated(), engine(to=to).connect() as connection:
        connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            yield connection


def direct(name: str, statement_ms: int = STATEMENT_MS) -> psycopg2.extensions.connection:
    """A connection of its own, in autocommit, for session locks; raises DatabaseAway."""
    with translated():
        return connect(name, statement_ms)
