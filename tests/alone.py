"""Who runs beside whom, where files of tests run side by side.

Tests marked `calm` hold the system to a time that it promises and load nothing: beside the crowd of all others they
would measure those, beside each other they wait together. Tests marked `alone` load the whole machine as well.

What one process runs in one piece, a class or the rest of a file, is of one company: amid the crowd each of the others
would have all wait for it.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TextIO

Company = Literal["crowd", "calm", "alone"]
ORDER: Final[tuple[Company, ...]] = ("crowd", "alone", "calm")  # in which they come: who has loaded may still wait
EMPTY: Final = {"crowd": "calm", "calm": "crowd"}  # which room must be empty for who enters the other


@contextmanager
def turn(session: str, company: Company) -> Iterator[Callable[[], None]]:
    """Wait until nobody of this session runs whom this test does not go with; then be seen to run, until the end or
    until what this yields is called: from then on the test may run beside everyone.

    Whoever comes passes the door, and who waits keeps it shut, so that nobody is overtaken for ever.
    """
    place = Path(tempfile.gettempdir()) / f"citycache-tests-{session}"
    place.mkdir(exist_ok=True)
    with (place / "door").open("w") as door, (place / "crowd").open("w") as crowd, (place / "calm").open("w") as calm:
        rooms = {"crowd": crowd, "calm": calm}
        fcntl.flock(door, fcntl.LOCK_EX)
        if company == "alone":
            for room in rooms.values():
                fcntl.flock(room, fcntl.LOCK_EX)
        else:
            other = rooms[EMPTY[company]]
            fcntl.flock(other, fcntl.LOCK_EX)
            fcntl.flock(rooms[company], fcntl.LOCK_SH)
            fcntl.flock(other, fcntl.LOCK_UN)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield lambda: _leave(rooms.values())


def _leave(rooms: Iterable[TextIO]) -> None:
    for room in rooms:
        fcntl.flock(room, fcntl.LOCK_UN)
