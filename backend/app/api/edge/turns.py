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
    """Of one application."""

    def __init__(self) -> None:
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._inside: Counter[str] = Counter()  # requests that have a turn or wait for one

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """Wait for a turn of this caller, and have it for the block."""
        self._inside[caller] += 1
        try:
            async with self._turns.setdefault(caller, asyncio.Semaphore(AT_ONCE)):
                yield
        finally:
            self._inside[caller] -= 1
            if not self._inside[caller]:
                del self._inside[caller], self._turns[caller]
