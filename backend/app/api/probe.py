"""Questions to servers that may be away: each has a deadline, and the answer never waits for a thread that hangs."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

import anyio
import anyio.to_thread

from backend.app.errors import CitycacheError
from backend.app.health.answer import Answer

SECONDS: Final = 1.5  # of one question; those of one answer are asked side by side
THREADS: Final = 12  # of all questions; threads that hang use them up, then questions fail at once
Value = TypeVar("Value")

_limiters: dict[int, anyio.CapacityLimiter] = {}  # by event loop


async def ask(question: Callable[[], Value], seconds: float = SECONDS) -> Answer[Value]:
    """Run a blocking question in a thread; when it does not end in time, the thread is left to itself."""
    try:
        with anyio.fail_after(seconds):
            return Answer(await anyio.to_thread.run_sync(question, abandon_on_cancel=True, limiter=_limiter()))
    except TimeoutError:
        return Answer(failure="no answer in time")
    except CitycacheError as failure:
        return Answer(failure=str(failure))
    except Exception as failure:  # whatever a driver raises: the caller shows it as not available
        return Answer(failure=f"{type(failure).__name__}: {failure}")


async def ask_all(**questions: Callable[[], object]) -> dict[str, Answer[object]]:
    """Several questions side by side."""
    answers: dict[str, Answer[object]] = {}

    async def one(name: str, question: Callable[[], object]) -> None:
        answers[name] = await ask(question)

    async with anyio.create_task_group() as group:
        for name, question in questions.items():
            group.start_soon(one, name, question)
    return answers


class Shared(Generic[Value]):
    """A question that is asked once for all who want its answer at the time; it is kept for some seconds."""

    def __init__(self, question: Callable[[], Coroutine[Any, Any, Value]], seconds: float = 0.0) -> None:
        self._question, self._seconds = question, seconds
        self._asked: asyncio.Task[Value] | None = None
        self._until = 0.0  # monotonic seconds

    async def __call__(self) -> Value:
        """The answer. Whoever asked first may go: the others still get it."""
        loop = asyncio.get_running_loop()
        if self._asked is None or self._asked.get_loop() is not loop or self._is_old(self._asked):
            self._asked = loop.create_task(self._ask(), context=contextvars.Context())
        return await asyncio.shield(self._asked)

    async def _ask(self) -> Value:
        value = await self._question()
        self._until = time.monotonic() + self._seconds
        return value

    def _is_old(self, asked: asyncio.Task[Value]) -> bool:
        if not asked.done():
            return False
        return asked.cancelled() or asked.exception() is not None or time.monotonic() >= self._until


class Remembered(Generic[Value]):
    """A blocking question whose answer is kept for some seconds; failures are not kept."""

    def __init__(self, question: Callable[[], Value], seconds: float) -> None:
        self._question = question
        self._seconds = seconds
        self._kept: tuple[float, Value] | None = None

    def __call__(self) -> Value:
        """The answer, young enough."""
        if self._kept and time.monotonic() - self._kept[0] < self._seconds:
            return self._kept[1]
        value = self._question()
        self._kept = (time.monotonic(), value)
        return value


def _limiter() -> anyio.CapacityLimiter:
    loop = id(anyio.lowlevel.current_token())
    return _limiters.setdefault(loop, anyio.CapacityLimiter(THREADS))
