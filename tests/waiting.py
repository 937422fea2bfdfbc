"""Waiting with a deadline: the only way in which tests let time pass (`contract/test_no_sleeps.py`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

SHORTEST_SECONDS: Final = 0.01  # between two questions
LONGEST_SECONDS: Final = 0.1
SHARE: Final = 0.05  # of what has been waited for: what is asked may cost as much as what is waited for
RESTS: Final = 3  # times as long as the question took, whose work keeps the machine from what is waited for
REST_SHARE: Final = 0.1  # of what has been waited for, at most


def until(holds: Callable[[], Any], seconds: float = 10, what: str = "") -> float:
    """Ask until the answer is truthy; the seconds it took. AssertionError after `seconds`."""
    begin = asked = time.monotonic()
    while not holds():
        now = time.monotonic()
        if now - begin > seconds:
            raise AssertionError(f"not within {seconds} s: {what or holds}")
        time.sleep(_pause(now - begin, now - asked, seconds))
        asked = time.monotonic()
    return time.monotonic() - begin


async def eventually(holds: Callable[[], Any], seconds: float = 10, what: str = "") -> None:
    """The same on an event loop, which goes on meanwhile."""
    begin = asked = time.monotonic()
    while not holds():
        now = time.monotonic()
        if now - begin > seconds:
            raise AssertionError(f"not within {seconds} s: {what or holds}")
        await asyncio.sleep(_pause(now - begin, now - asked, seconds))
        asked = time.monotonic()


def _pause(waited: float, question: float, seconds: float) -> float:
    """Seconds until the next question, after one that took `question` s: the last one is asked when time is up."""
    usual = min(max(SHORTEST_SECONDS, SHARE * waited), LONGEST_SECONDS)
    rest = min(RESTS * question, REST_SHARE * waited, seconds - waited)
    return max(usual, rest)


async def turn_of_the_loop() -> None:
    """Return when the running event loop has done once what it had to do by now."""
    loop = asyncio.get_running_loop()
    behind_it: asyncio.Future[None] = loop.create_future()
    loop.call_soon(behind_it.set_result, None)
    await behind_it
