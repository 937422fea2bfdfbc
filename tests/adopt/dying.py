"""Work that ends at a chosen statement, as by kill -9: in a process of its own that looks as this one does."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event

from backend.app import db


def dies(work: Callable[[], Any], statement: int) -> bool:
    """Whether the work came to its statement of this number, before which it was killed; else it came to its end."""
    db.dispose()
    child = os.fork()
    if child == 0:
        _end(work, statement)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WIFSIGNALED(status), "the work failed by itself"
    return os.WIFSIGNALED(status)


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
