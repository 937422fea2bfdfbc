"""Work that ends at a chosen statement: killed, in a process of its own, or cut off by the server."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from backend.app import db
from backend.app.errors import Away
from backend.app.settings import settings
from tests.plain import Plain

OURS_END = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name !~ '^test '"""


def dies(work: Callable[[], Any], statement: int) -> bool:
    """Whether the work came to its statement of this number, before which it was killed; else it came to its end."""
    db.dispose()
    child = os.fork()
    if child == 0:
        _end(work, statement)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WIFSIGNALED(status), "the work failed by itself"
    return os.WIFSIGNALED(status)


def is_cut_off(work: Callable[[], Any], statement: int) -> bool:
    """Whether the work came to its statement of this number, before which the server ended all sessions of ours. It has
    to say that the database is away, or to come to its end."""
    has_come = threading.Event()

    def cut() -> None:
        has_come.set()
        with Plain(settings().database_url) as plain:
            plain.all(OURS_END)

    with before_statement(statement, cut):
        try:
            work()
        except Away:
            assert has_come.is_set()
    return has_come.is_set()


@contextmanager
def before_statement(number: int, act: Callable[[], Any]) -> Iterator[None]:
    """Before the statement or commit of this number, on whatever connection, this is done once."""
    left = number

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            act()

    for moment in ("before_cursor_execute", "commit"):
        event.listen(Engine, moment, count)
    try:
        yield
    finally:
        for moment in ("before_cursor_execute", "commit"):
            event.remove(Engine, moment, count)


def _end(work: Callable[[], Any], statement: int) -> None:
    try:
        with before_statement(statement, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
