"""Waiting with a deadline: the only way in which tests let time pass (`contract/test_no_sleeps.py`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

SHORTEST_SECONDS: Final = 0.01  # between two questions
LONGEST_SECONDS: Final = 0.1
SHARE: Final = 0.05  # of what has been waited for: what is asked may cost as much as what is waited for


def until(holds: Callable[[], Any], seconds: float = 10, what: str = "") -> float:
    """Ask until the answer is truthy; the seconds it took. AssertionError after `seconds`."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > seconds:
            raise AssertionError(f"not within {seconds} s: {what or holds}")
        time.sleep(_pause(time.monotonic() - begin))
    return time.monotonic() - begin


async def eventually(holds: Callable[[], Any], seconds: float = 10, what: str = "") -> None:
    """The same on an event loop, which goes on meanwhile."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > seconds:
            raise AssertionError(f"not within {seconds} s: {what or holds}")
        await asyncio.sleep(_pause(time.monotonic() - begin))


def _pause(waited: float) -> float:
    return min(max(SHORTEST_SECONDS, SHARE * waited), LONGEST_SECONDS)


async def turn_of_the_loop() -> None:
    """Return when the running event loop has done once what it had to do by now."""
    loop = asyncio.get_running_loop()
    behind_it: asyncio.Future[None] = loop.create_future()
    loop.call_soon(behind_it.set_result, None)
    await behind_it
