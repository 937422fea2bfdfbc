"""Alive is not working: a process whose work does not go round any more ends itself, and is started again.

The work moves a mark; a thread looks at it. Waiting for a lost server is work as well, since it tries again and again.
A process that was suspended finds all its marks old when it wakes: a look that comes late itself judges nobody. Where
no thread can run, because one does not let go of the interpreter, the processor time that this takes ends the process.
Whoever supervises sees the same mark as a file. Only the standard library is imported.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)
VARIABLE: Final = "MARK_FILE"  # unset where nobody looks
LOOK_SECONDS: Final = 1.0
LATE_SECONDS: Final = 5.0  # a look that comes so much too late says that the process did not run meanwhile
EXIT_CODE: Final = 70  # EX_SOFTWARE
THREAD: Final = "watchdog"

_marks: dict[str, float] = {}  # what goes round → when it did, in monotonic seconds


def move(name: str) -> None:
    """The work of this name goes round, if it is watched; takes under a microsecond."""
    if name in _marks:
        _marks[name] = time.monotonic()


def leave(name: str) -> None:
    """The work of this name has ended."""
    _marks.pop(name, None)


def watch(name: str, seconds: float) -> None:
    """The work of this name begins; end this process when a mark has not moved for so long; 0: never."""
    _marks[name] = time.monotonic()
    if seconds > 0 and not any(thread.name == THREAD for thread in threading.enumerate()):
        threading.Thread(target=_look_again_and_again, args=(seconds,), name=THREAD, daemon=True).start()


def _look_again_and_again(seconds: float) -> None:
    with suppress(RuntimeError, OSError, ValueError):  # where standard error is no file
        faulthandler.register(signal.SIGPROF, all_threads=True, chain=True)
    last = time.monotonic()
    while True:
        signal.setitimer(signal.ITIMER_PROF, 2 * seconds)  # of processor time, in which no look came
        time.sleep(LOOK_SECONDS)
        now = time.monotonic()
        if now - last > LOOK_SECONDS + LATE_SECONDS:
            _forgive(now)
        last = now
        _look(seconds, now)


def _forgive(now: float) -> None:
    for name in list(_marks):
        _marks[name] = now


def _look(seconds: float, now: float) -> None:
    for name, moved in list(_marks.items()):
        if now - moved > seconds:
            _end(name, now - moved)
    if _marks and (file := os.environ.get(VARIABLE)):
        with suppress(OSError):
            Path(file).touch()


def _end(name: str, still: float) -> None:
    log.critical("the %s stands still for %.0f s; the process ends", name, still)
    with suppress(OSError, ValueError):
        faulthandler.dump_traceback(sys.stderr)
    os._exit(EXIT_CODE)
