"""No caller takes all the threads: its requests that need one wait for each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from backend.app.api.database import THREADS

AT_ONCE: Final = THREADS // 2  # requests of one caller that may have a thread


class Turns:
    """Of one pool of threads."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        """`at_once`: threads that one caller may have."""
        self._at_once = at_once
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._inside: Counter[str] = Counter()  # requests that have a turn or wait for one

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """Wait for a turn of this caller, and have it for the block."""
        self._inside[caller] += 1
        try:
            async with self._turns.setdefault(caller, asyncio.Semaphore(self._at_once)):
                yield
        finally:
            self._inside[caller] -= 1
            if not self._inside[caller]:
                del self._inside[caller], self._turns[caller]
