"""Work beside a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Work = Callable[[threading.Event], None]  # goes on until the event is set


@contextmanager
def background(work: Work, patience: float = 30) -> Iterator[None]:
    """Work on a thread of its own; at the end it is asked to stop, and has `patience` seconds for it."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=[stop], name=work.__name__, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(patience)
        assert not thread.is_alive(), f"{work.__name__} does not stop"
