"""Work that is done once for all who came before it began."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Rounds(Generic[Value]):
    """One round at a time; whoever comes while it goes on shares the next one, whose result is younger than they."""

    def __init__(
        self, work: Callable[[], Coroutine[Any, Any, Value]], rest: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        """`rest`: between a round and one that is waited for, so that those who were just answered and ask again still
        share that one. Else they would stay a round behind those who came while they waited."""
        self._work, self._rest = work, rest
        self._running: asyncio.Task[Value] | None = None
        self._next: asyncio.Task[Value] | None = None

    async def __call__(self) -> Value:
        """The result of a round that begins now or later. Whoever stops waiting takes nothing from the others."""
        loop = asyncio.get_running_loop()
        if self._next is None or self._next.get_loop() is not loop:
            before = self._running if self._running and self._running.get_loop() is loop else None
            self._next = loop.create_task(self._round(before), context=contextvars.Context())
            self._next.add_done_callback(_seen)
        return await asyncio.shield(self._next)

    async def _round(self, before: asyncio.Task[Value] | None) -> Value:
        if before is not None and not before.done():
            await asyncio.wait({before})
            await self._rest()
        self._running, self._next = self._next, None
        return await self._work()


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # there may be nobody left who waits for it
