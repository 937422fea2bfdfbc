"""A blocking question that is asked again and again: never twice at a time, and nobody waits for one that hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from backend.app.errors import CitycacheError
from backend.app.health.answer import Answer

Value = TypeVar("Value")


class Question(Generic[Value]):
    """Asked in a daemon thread. While one hangs, such as at a stopped server, no second one is started beside it."""

    def __init__(self, ask: Callable[[], Value]) -> None:
        self._ask = ask
        self._pending: asyncio.Future[Answer[Value]] | None = None

    async def __call__(self, seconds: float) -> Answer[Value]:
        """The answer, or the failure that there was none within `seconds`."""
        if self._pending is None or self._pending.done():  # an answer that came too late is of the past
            self._pending = self._start()
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._pending)
        except TimeoutError:
            return Answer(failure="no answer in time")

    def _start(self) -> asyncio.Future[Answer[Value]]:
        loop = asyncio.get_running_loop()
        pending: asyncio.Future[Answer[Value]] = loop.create_future()

        def settle(answer: Answer[Value]) -> None:
            if not pending.done():
                pending.set_result(answer)

        def run() -> None:
            answer = self._answer()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, answer)

        threading.Thread(target=run, name=f"console {getattr(self._ask, '__name__', '')}", daemon=True).start()
        return pending

    def _answer(self) -> Answer[Value]:
        try:
            return Answer(self._ask())
        except CitycacheError as failure:
            return Answer(failure=str(failure))
        except Exception as failure:  # whatever a driver raises: the page shows what could not be asked
            return Answer(failure=f"{type(failure).__name__}: {failure}")
