"""No caller takes all the threads: its requests wait for each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from backend.app.api.database import THREADS
from backend.app.api.security import caller_of

AT_ONCE: Final = THREADS // 2  # requests of one caller that may be in work; its others wait
UNCOUNTED: Final = ("/health/", "/metrics", "/api/v1/console/stream")  # no threads of requests, or a share of their own


class Turns:
    """Middleware: a caller's requests beyond its part wait for its earlier ones."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._inside: Counter[str] = Counter()  # requests that have a turn or wait for one

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass when it is its turn."""
        if scope["type"] != "http" or scope["path"].startswith(UNCOUNTED):
            return await self.app(scope, receive, send)
        caller = caller_of(scope).share
        self._inside[caller] += 1
        try:
            async with self._turns.setdefault(caller, asyncio.Semaphore(AT_ONCE)):
                await self.app(scope, receive, send)
        finally:
            self._inside[caller] -= 1
            if not self._inside[caller]:
                del self._inside[caller], self._turns[caller]
