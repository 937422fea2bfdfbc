"""Sessions on PostgreSQL, led statement by statement: the product's own code, one statement of it let go at a time.

Each session is a thread. Before each statement and each commit its thread waits until it is let go. A session is
settled when it waits for that again, has ended, or waits in the server for a lock of another one (pg_blocking_pids).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from unittest.mock import patch

import psycopg2.extensions
from sqlalchemy import Connection, event

from backend.app import db
from events.prepared import Prepared
from tests.model.naming import first_word_of, name_of
from tests.plain import Plain

PATIENCE: Final = 30.0  # seconds for one step
GLANCE: Final = 0.002  # seconds before the server is asked whether a step is blocked
State = Literal["waits", "goes", "ended"]


class Killed(BaseException):
    """The session's process is gone."""


class NotSettled(Exception):
    """A session neither came to its next statement nor waits for a lock."""


@dataclass
class Session:
    """One thread of work, and where it stands."""

    name: str
    work: Callable[[], Any]
    passes: frozenset[str] = frozenset()  # steps that go together with the one before them
    may_die: bool = False
    state: State = "goes"
    step: str = ""  # that it waits with
    backend: int = 0  # the process of its last connection
    failure: BaseException | None = None
    has_written: bool = False  # in the transaction that is open
    is_killed: bool = False


class Conductor:
    """Lets the sessions go; all others stand still meanwhile."""

    def __init__(self, sessions: Sequence[Session], watcher: Plain) -> None:
        self.sessions, self._watcher = sessions, watcher
        self._changed = threading.Condition()

    def start(self) -> None:
        """Bring all sessions to their first step."""
        for session in self.sessions:
            threading.Thread(target=self._run, args=[session], name=session.name, daemon=True).start()
        self.settle()

    def go(self, session: Session, dies: bool = False) -> None:
        """Let its step go, or end it there."""
        with self._changed:
            session.state, session.is_killed = "goes", dies
            self._changed.notify_all()
        self.settle()

    def arrive(self, session: Session, step: str) -> None:
        """Called by the session's thread: wait to be let go."""
        if step in session.passes:
            return
        with self._changed:
            session.state, session.step = "waits", step
            self._changed.notify_all()
            self._changed.wait_for(lambda: session.state == "goes")
        if session.is_killed:
            raise Killed

    def settle(self) -> None:
        """Until every session waits, has ended or is blocked. Where all are blocked the server ends one of them."""
        deadline = time.monotonic() + PATIENCE
        while going := self._going():
            if any(session.state == "waits" for session in self.sessions) and self._are_blocked(going):
                return
            if time.monotonic() > deadline:
                raise NotSettled(", ".join(session.name for session in going))

    def _going(self) -> list[Session]:
        def are_all_settled() -> bool:
            return not any(session.state == "goes" for session in self.sessions)

        with self._changed:
            self._changed.wait_for(are_all_settled, GLANCE)
            return [session for session in self.sessions if session.state == "goes"]

    def _are_blocked(self, going: list[Session]) -> bool:
        """Each of them waits for one that is blocked itself, or stands still."""
        waits = dict(
            self._watcher.all(
                "SELECT backend, pg_blocking_pids(backend) FROM unnest(%s) AS backend",
                ([session.backend for session in going],),
            )
        )
        still = {session.backend for session in self.sessions if session.state == "waits"}
        return all(blockers and set(blockers) <= still | waits.keys() for blockers in waits.values())

    def _run(self, session: Session) -> None:
        _mine.session, _mine.conductor = session, self
        try:
            session.work()
        except BaseException as failure:
            session.failure = failure
        with self._changed:
            session.state = "ended"
            self._changed.notify_all()


class _Mine(threading.local):
    session: Session | None = None
    conductor: Conductor | None = None


_mine = _Mine()


def step(name: str, backend: int = 0) -> None:
    """A step of the session that this thread belongs to; nothing in threads of no session."""
    if _mine.session and _mine.conductor:
        _mine.session.backend = backend or _mine.session.backend
        _mine.conductor.arrive(_mine.session, name)


class LedCursor(psycopg2.extensions.cursor):
    """Of a plain connection in autocommit, like the relay's."""

    def execute(self, query: Any, parameters: Any = None) -> None:
        step(name_of(query), self.connection.info.backend_pid)
        super().execute(query, parameters)


class LedPool(ThreadPoolExecutor):
    """Its threads belong to the session that made it."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers, initializer=_adopt, initargs=(_mine.session, _mine.conductor))


def _adopt(session: Session | None, conductor: Conductor | None) -> None:
    _mine.session, _mine.conductor = session, conductor


@contextmanager
def led_engine() -> Iterator[None]:
    """Statements and commits of this process's engine are steps of the sessions, each as it stands in its file."""
    engine = db.engine()
    hooks = {"before_cursor_execute": _before_statement, "commit": _before_commit, "rollback": _after_rollback}
    for name, hook in hooks.items():
        event.listen(engine, name, hook)
    try:
        with patch.object(Prepared, "run", lambda self, execute, *statement: execute(*statement)):
            yield
    finally:
        for name, hook in hooks.items():
            event.remove(engine, name, hook)


def _before_statement(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
    session, name = _mine.session, name_of(statement)
    if session is None or statement.startswith("SET "):
        return
    step(name, cursor.connection.info.backend_pid)
    writes = name == "lock_lanes" or first_word_of(statement) != "SELECT"
    session.has_written = session.has_written or (writes and name not in session.passes)


def _before_commit(connection: Connection) -> None:
    """The end of a transaction that only read, or whose steps all went with another one, changes nothing for others."""
    if _mine.session and _mine.session.has_written:
        step("commit")
        _mine.session.has_written = False


def _after_rollback(connection: Connection) -> None:
    if _mine.session:
        _mine.session.has_written = False
