"""How much memory each of the processes has had, at most."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.faults.world import World
from tests.system import EVERYTHING

EVERY: Final = 0.5  # seconds between two looks


class Memory:
    """Watches all processes; those of the worker's pool as one kind."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.most: dict[str, int] = {}  # bytes, by kind of process

    def work(self, stop: threading.Event) -> None:
        """Until stopped."""
        while not stop.wait(EVERY):
            self.look()

    def look(self) -> dict[str, int]:
        """The most that each kind has had since `most` was emptied, or its process began."""
        for name in EVERYTHING:
            if pid := self._world.pid(name):
                self._note(name, pid)
        for child in self._world.children():
            self._note("child of worker", child)
        return dict(self.most)

    def _note(self, kind: str, pid: int) -> None:
        with suppress(OSError, StopIteration):  # it has ended
            self.most[kind] = max(self.most.get(kind, 0), _peak(pid))


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
