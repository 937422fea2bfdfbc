"""A small supervisor: starts children, starts those again that die, and stops all of them in reverse order.

Each child writes to a log of its own; the terminal shows only its warnings and errors, its name before them.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from backend.embedded import spawn

FIRST_PAUSE = 0.5  # seconds between a death and the next start; doubles with each early death
LONGEST_PAUSE = 30.0
STEADY = 60.0  # whoever ran this long starts again with the first pause
PATIENCE = 10.0  # for all children together, from SIGTERM to SIGKILL
TICK = 0.5  # between two looks at marks and logs
LATE = 5.0  # seconds between two looks that say that we were suspended ourselves
LONG_LOG = 50 * 2**20
WORTH_SHOWING = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|\"level\": ?\"(warning|error|critical)\"")


class StopRequested(BaseException):
    """The terminal or the system asks us to end (not an Exception: nobody may swallow it)."""


class Supervised(Protocol):
    """What the supervisor keeps alive: a child, or an embedded server."""

    name: str

    @property
    def pid(self) -> int | None:
        """None when it does not run."""

    def begin(self) -> None:
        """Start it without waiting until it works; may raise when that is not possible now."""


@dataclass
class Child:
    """One process of our own."""

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    restarts: bool = True  # False: it ends when its work is done
    mark: Path | None = None  # a file that it touches while its work goes round
    _process: spawn.Process | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """The process id, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs or when it was never started."""
        return self._process.poll() if self._process is not None else None

    def begin(self) -> None:
        """Start it; what its last life left behind (such as a worker's pool) is killed before."""
        self.kill()
        if self.mark is not None:
            self.mark.unlink(missing_ok=True)
        if self.log.exists() and self.log.stat().st_size > LONG_LOG:
            self.log.replace(self.log.with_suffix(".1.log"))
        self._process = spawn.spawn(self.argv, log=self.log, env=self.env, cwd=self.cwd)

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to it and to all of its process group."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@dataclass
class _Overseen:
    """What the supervisor remembers of one part."""

    part: Supervised
    begun: float = 0.0
    pause: float = FIRST_PAUSE
    due: float | None = None  # when it starts again, while it is down
    marked: float | None = None  # the mark as it was seen last; None: there was none yet
    moved: float = 0.0  # when it was seen to move, in monotonic seconds

    def seconds_still(self, now: float) -> float:
        """How long a child's mark has not moved; 0 for whoever has none."""
        mark = self.part.mark if isinstance(self.part, Child) else None
        seen = mark.stat().st_mtime if mark is not None and mark.exists() else None
        if seen != self.marked:
            self.marked, self.moved = seen, now
        return 0.0 if seen is None else now - self.moved


class Supervisor:
    """Keeps parts alive until it is asked to stop."""

    def __init__(
        self,
        on_change: Callable[[], None] = lambda: None,
        show: Callable[[str], None] = print,
        still_seconds: float = 0.0,
    ) -> None:
        """`on_change` is called after each start or end; `show` gets lines for the terminal. A child whose mark has
        not moved for `still_seconds` is killed and started again; 0: never."""
        self._still_seconds = still_seconds
        self._looked = time.monotonic()
        self._watches: list[_Overseen] = []
        self._tails: list[LogTail] = []
        self._on_change = on_change
        self._show = show

    def pids(self) -> dict[str, int]:
        """The process id of each part that runs."""
        return {watch.part.name: watch.part.pid for watch in self._watches if watch.part.pid is not None}

    def adopt(self, part: Supervised) -> None:
        """Watch a part that runs already."""
        self._watches.append(_Overseen(part, time.monotonic()))

    def start(self, child: Child) -> None:
        """Start a child and watch it."""
        self._tails.append(LogTail(child.name, child.log))
        child.begin()
        self.adopt(child)
        self._on_change()

    def run(self) -> None:
        """Look after all parts until StopRequested comes."""
        while True:
            self.run_once()
            spawn.await_an_end(self._seconds_until_due())

    def _seconds_until_due(self) -> float:
        now = time.monotonic()
        return min([TICK, *(max(0.0, watch.due - now) for watch in self._watches if watch.due is not None)])

    def run_once(self) -> None:
        """Start what is due, note what died, show what is worth it."""
        now = time.monotonic()
        late, self._looked = now - self._looked, now
        for watch in list(self._watches):
            if late > LATE:
                watch.moved += late
            self._end_if_still(watch, now)
            if watch.due is not None and now >= watch.due:
                self._begin_again(watch)
            elif watch.due is None and watch.part.pid is None:
                self._note_end(watch, now)
        for tail in self._tails:
            for line in tail.new_lines():
                self._show(line)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """SIGTERM to all children, last started first; SIGKILL to what runs after 10 s, or in a `hurry`."""
        children = [watch.part for watch in reversed(self._watches) if isinstance(watch.part, Child)]
        for child in children:
            child.terminate()
        deadline = time.monotonic() + PATIENCE
        while any(child.pid for child in children) and time.monotonic() < deadline and not hurry():
            time.sleep(spawn.LOOK_EVERY)
        for child in children:
            child.kill()

    def _end_if_still(self, watch: _Overseen, now: float) -> None:
        """That its process exists says nothing: it may be suspended, or wait for ever."""
        child, still = watch.part, watch.seconds_still(now)
        if isinstance(child, Child) and child.pid is not None and 0 < self._still_seconds < still:
            self._show(f"{child.name} stands still for {still:.0f} s; it is killed")
            child.kill()

    def _note_end(self, watch: _Overseen, now: float) -> None:
        if isinstance(watch.part, Child) and not watch.part.restarts:
            self._watches.remove(watch)
            if watch.part.exit_code != 0:
                self._show(f"{watch.part.name} failed; see {watch.part.log}")
        else:
            watch.pause = FIRST_PAUSE if now - watch.begun > STEADY else watch.pause
            watch.due = now + watch.pause
            self._show(f"{watch.part.name} ended; it starts again in {watch.pause:g} s")
        self._on_change()

    def _begin_again(self, watch: _Overseen) -> None:
        watch.due, watch.begun = None, time.monotonic()
        watch.pause = min(watch.pause * 2, LONGEST_PAUSE)
        try:
            watch.part.begin()
        except Exception as failure:
            watch.due = time.monotonic() + watch.pause
            self._show(f"{watch.part.name} does not start: {failure}")
        self._on_change()


class LogTail:
    """The warnings and errors that a child appends to its log from now on."""

    def __init__(self, name: str, log: Path) -> None:
        self._name, self._log = name, log
        self._offset = log.stat().st_size if log.exists() else 0

    def new_lines(self) -> Iterator[str]:
        """Whole lines since the last call that are worth showing, the child's name before each."""
        with suppress(OSError), self._log.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._offset:
                self._offset = 0
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
            self._offset += len(whole) + len(newline)
            for line in whole.decode(errors="replace").splitlines():
                if WORTH_SHOWING.search(line):
                    yield f"{self._name} | {line}"


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within it the first SIGINT, SIGTERM or SIGHUP raises StopRequested; yields whether another one came."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise StopRequested

    names = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        names.append(signal.SIGHUP)
    before = {name: signal.signal(name, note) for name in names}
    try:
        yield lambda: len(received) > 1
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def program(name: str) -> str:
    """The path of a command installed beside this Python."""
    return str(Path(sys.executable).with_name(name))
