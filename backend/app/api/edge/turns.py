"""No caller takes all the threads: its requests that need one wait for each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from backend.app.api.database import THREADS
from backend.app.api.deadline import SECONDS
from backend.app.errors import Away

AT_ONCE: Final = THREADS // 2  # requests of one caller that may have a thread


class Turns:
    """Of one pool of threads."""

    def __init__(self, at_once: int = AT_ONCE, seconds: float = SECONDS) -> None:
        """`at_once`: threads that one caller may have; `seconds`: after which nobody waits for an answer any more."""
        self._at_once, self._seconds = at_once, seconds
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._inside: Counter[str] = Counter()  # requests that have a turn or wait for one

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """Wait for a turn of this caller, and have it for the block. Raises Away when none came in time."""
        self._inside[caller] += 1
        turns = self._turns.setdefault(caller, asyncio.Semaphore(self._at_once))
        try:
            await self._begin(turns)
            try:
                yield
            finally:
                turns.release()
        finally:
            self._inside[caller] -= 1
            if not self._inside[caller]:
                del self._inside[caller], self._turns[caller]

    async def _begin(self, turns: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await turns.acquire()
        except TimeoutError:
            raise Away("no turn in time: requests of this caller have all the threads that it may have") from None
