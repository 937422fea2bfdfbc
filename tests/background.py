"""Work beside a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Work = Callable[[threading.Event], None]  # goes on until the event is set


@contextmanager
def background(work: Work, patience: float = 30) -> Iterator[None]:
    """Work on a thread of its own; at the end it is asked to stop, has `patience` seconds for it, and must not have
    failed.
    """
    stop = threading.Event()
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work(stop)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=guarded, name=work.__qualname__, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(patience)
        assert not thread.is_alive(), f"{work.__qualname__} does not stop"
        if failures:
            raise failures[0]
