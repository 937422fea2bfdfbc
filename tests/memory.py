"""A folder in memory for servers whose data nobody needs afterwards.

Each test gets a database of its own, which is some hundred files. ext4 gives none of them an inode that was freed
within the last minutes, and looks at these one by one: on a disk a new database takes a second after a while, in memory
a tenth of it.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

SHARED: Final = Path("/dev/shm")
PREFIX: Final = "citycache-tests-"
LOCK: Final = "lock"
ROOM: Final = 4 * 2**30  # bytes; containers often have 64 MB


@contextmanager
def folder(instead: Path) -> Iterator[Path]:
    """A new folder in memory, which goes at the end; where there is not enough room, `instead`."""
    if not SHARED.is_dir() or shutil.disk_usage(SHARED).free < ROOM:
        yield instead
        return
    _sweep()
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=SHARED, ignore_cleanup_errors=True) as place,
        (Path(place) / LOCK).open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(place)


def _sweep() -> None:
    """Take out what was left by sessions that were killed: nobody holds its lock."""
    for held in SHARED.glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), held.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(held.parent, ignore_errors=True)
