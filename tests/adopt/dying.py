"""Work that ends at a chosen statement: killed, in a process of its own, or cut off by the server."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
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
    left = statement

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            with Plain(settings().database_url) as plain:
                plain.all(OURS_END)

    for moment in ("before_cursor_execute", "commit"):
        event.listen(Engine, moment, count)
    try:
        work()
    except Away:
        assert left <= 0
    finally:
        for moment in ("before_cursor_execute", "commit"):
            event.remove(Engine, moment, count)
    return left <= 0


def _end(work: Callable[[], Any], statement: int) -> None:
    left = statement

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for moment in ("before_cursor_execute", "commit"):
        event.listen(Engine, moment, count)
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
