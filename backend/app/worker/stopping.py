"""A worker that is asked to stop ends within 10 s, whatever it is doing and whoever does not answer.

Event batches end by themselves within milliseconds. A rebuild or a replay that goes on is cut off: its message
returns to the queue, and another worker, or this one after its restart, goes on with it. Nothing is half done then,
since all that is done is done in transactions.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Final

from backend.launch import die_with

log = logging.getLogger(__name__)
WARM_SECONDS: Final = 5.0  # for tasks to end by themselves
COLD_SECONDS: Final = 3.0  # more, for cut-off tasks to return to their queue


def within_deadline(how: str = "Warm", **kwargs: Any) -> None:
    """A receiver of Celery's `worker_shutting_down`, which comes at SIGTERM."""
    if how == "Warm":
        _later(WARM_SECONDS, _cut_off)
        _later(WARM_SECONDS + COLD_SECONDS, _abandon)


def end_within(seconds: float, exit_code: int) -> None:
    """This process cannot go on: whatever its end waits for, it is over in time."""
    _later(seconds, lambda: os._exit(exit_code))


def _later(seconds: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


def _cut_off() -> None:
    log.warning("the worker ends with tasks under way; they return to their queue")
    os.kill(os.getpid(), signal.SIGQUIT)


def _abandon() -> None:
    """A server does not answer: what was not acknowledged returns when the broker notices that we are gone."""
    log.warning("the worker ends while a server kept it waiting")
    os._exit(0)


def with_the_worker(**kwargs: Any) -> None:
    """A receiver of `worker_process_init`: a child ends with its worker, however that ends.

    Else it would go on with a task whose message the broker gives to another worker already.
    """
    die_with(os.getppid(), signal.SIGKILL)
