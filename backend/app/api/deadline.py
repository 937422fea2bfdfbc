"""No request waits for ever: whatever hangs behind it, an answer goes out in time.

A thread that waits for a stopped server cannot be cancelled. The answer is sent past it, the thread ends on its own
when the server or the kernel gives up, and it must not commit what its client was told had failed.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.app.api.problems import problem
from backend.app.errors import Away

SECONDS: Final = 1.7  # the contract says 2 s; the rest is for the way of many at once

UNTIL: Final = "citycache.until"  # key of a scope: monotonic seconds, where some of its time has passed
_until: ContextVar[float] = ContextVar("until", default=float("inf"))


def remaining() -> float:
    """Seconds that this request still has."""
    return _until.get() - time.monotonic()


def check() -> None:
    """Raise Away when this request has been answered already."""
    if time.monotonic() >= _until.get():
        raise Away("the request took too long")


class Deadline:
    """Outermost middleware: answers 503 for a request that has not begun its response in time."""

    def __init__(self, app: ASGIApp, seconds: float = SECONDS) -> None:
        self.app = app
        self._seconds = seconds
        self._late: set[asyncio.Task[None]] = set()  # still running, answered already

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request against the clock."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        gate = _Gate(send)
        until = min(time.monotonic() + self._seconds, scope.get(UNTIL, float("inf")))
        _until.set(until)
        task = asyncio.ensure_future(self.app(scope, receive, gate))
        try:
            await asyncio.wait({task}, timeout=max(0.0, until - time.monotonic()))
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done() and gate.close():
            self._late.add(task)
            task.add_done_callback(self._forget)
            await problem(503, "no answer in time: a server behind the API is away or overloaded", scope["path"])(
                scope, receive, send
            )
        else:
            await task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # it has been answered for


class _Gate:
    """Lets a response through until it is closed."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False
        self._closed = False

    def close(self) -> bool:
        """Whether nothing had passed yet, and nothing will."""
        self._closed = not self._begun
        return self._closed

    async def __call__(self, message: Message) -> None:
        if self._closed:
            return
        self._begun = True
        await self._send(message)
