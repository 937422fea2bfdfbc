"""Tests marked `alone` run while no other test does, also where files of tests run side by side.

They hold the system to a time that it promises, or load the whole machine: beside others they would measure those.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(session: str, alone: bool) -> Iterator[None]:
    """Wait until nobody else of this session, or no lone test, runs; then be seen to run.

    Whoever comes passes the door, and who wants to be alone keeps it shut, so that nobody is overtaken for ever.
    """
    place = Path(tempfile.gettempdir()) / f"citycache-tests-{session}"
    place.mkdir(exist_ok=True)
    with (place / "door").open("w") as door, (place / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
