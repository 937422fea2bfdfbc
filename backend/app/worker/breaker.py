"""How many keys one transaction may have: fewer after one that took too long, and slowly more again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

SHRINK: Final = 8  # a part that took too long becomes so many: a lone slow key among thousands is found in four steps
DOUBLE_SECONDS: Final = 30.0  # in which the limit doubles, as long as nothing takes too long


class Breaker:
    """The limit of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limit: int | None = None  # None: none
        self._since = 0.0

    def most(self, full: int) -> int:
        """Keys of the next transaction, at least 1 and at most `full`."""
        if self._limit is None:
            return full
        doublings = min(32.0, (self._clock() - self._since) / DOUBLE_SECONDS)
        grown = int(self._limit * 2**doublings)
        if grown >= full:
            self.forgive()
        return min(full, grown)

    def shrink(self, keys: int) -> None:
        """A transaction with so many keys took too long."""
        self._limit = max(1, min(self.most(keys), keys // SHRINK))
        self._since = self._clock()

    def forgive(self) -> None:
        """It was not their number: one key takes too long whenever it comes."""
        self._limit = None


breaker: Final = Breaker()
