"""Waiting for fresh rows: one look of a few milliseconds serves all requests that wait, and no thread sleeps for them.

A look counts only for requests that came before it began: its snapshot may be older than the write of one that came
later. What a look found fresh stays so for whoever waited, since a cache never goes back behind a write it has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Scope, Send

from backend.app.api import database, deadline
from backend.app.api.edge.shares import Pool
from backend.app.api.fresh.asking import FRESH, Asked, asked
from backend.app.caches import diff
from backend.app.caches.diff import Noun
from backend.app.errors import TooLong
from backend.app.telemetry import metrics

MOST_WAITING: Final = 1_000  # requests of this process that wait; others are answered "no" at once
EACH: Final = 200  # of one caller
KEYS_OF_A_LOOK: Final[dict[Noun, int]] = {"product": 2_000, "company": 1, "city": 1}  # the last two may be large
LEAST_PAUSE: Final = 0.002  # seconds between two looks; as long as the look took, if that is longer
LONGEST_PAUSE: Final = 0.1
FIRST_LOOK: Final = 0.5  # seconds that the first look may take, however short the wait: a company may be large
FOR_THE_READ: Final = 0.2  # seconds of a request's time that the waiting leaves
Look = Callable[[Noun, Sequence[int]], set[int]]  # those of the keys that are not fresh


@dataclass(eq=False)
class _Waiter:
    """A request's keys of one noun."""

    keys: set[int]  # not fresh yet
    until: float  # monotonic seconds
    answer: asyncio.Future[bool]
    unseen: set[int] = field(default_factory=set)  # not looked at yet

    def learn(self, looked_at: Iterable[int], stale: set[int]) -> None:
        """What a look found that began after this request came."""
        self.unseen.difference_update(looked_at)
        self.keys.difference_update(set(looked_at) - stale)
        if not self.answer.done() and (not self.keys or (time.monotonic() >= self.until and not self.unseen)):
            self.answer.set_result(not self.keys)

    def fail(self, failure: Exception) -> None:
        """The look itself failed."""
        if not self.answer.done():
            self.answer.set_exception(failure)


class NounLookout:
    """All requests that wait for keys of one noun."""

    def __init__(self, noun: Noun, look: Look, most: int) -> None:
        self._noun, self._look, self._most = noun, look, most
        self._waiters: set[_Waiter] = set()
        self._looked: dict[int, float] = {}  # when each key was looked at last
        self._looking: asyncio.Task[None] | None = None

    async def until_fresh(self, keys: set[int], until: float) -> bool:
        """Whether all keys were fresh by then; each is looked at once at least. Raises what a look raises."""
        waiter = _Waiter(set(keys), until, asyncio.get_running_loop().create_future(), set(keys))
        self._waiters.add(waiter)
        self._looking = self._looking or asyncio.create_task(self._run())
        try:
            return await waiter.answer
        finally:
            self._waiters.discard(waiter)

    async def _run(self) -> None:
        while self._waiters:
            began = time.monotonic()
            await self._run_once()
            await asyncio.sleep(min(LONGEST_PAUSE, max(LEAST_PAUSE, time.monotonic() - began)))
        self._looked.clear()
        self._looking = None

    async def _run_once(self) -> None:
        waiters = list(self._waiters)
        keys = self._due(waiters)
        try:
            stale = await asyncio.to_thread(self._look, self._noun, keys)
        except Exception as failure:
            for waiter in waiters:
                waiter.fail(failure)
            return
        for waiter in waiters:
            waiter.learn(keys, stale)

    def _due(self, waiters: Sequence[_Waiter]) -> list[int]:
        """Keys of the next look: those first that have not been looked at for longest, and new ones before all."""
        wanted = {key for waiter in waiters for key in waiter.keys}
        keys = sorted(wanted, key=lambda key: self._looked.get(key, 0.0))[: self._most]
        self._looked = {key: self._looked[key] for key in wanted & self._looked.keys()}
        self._looked |= dict.fromkeys(keys, time.monotonic())
        return keys


class Lookout:
    """Of one application."""

    def __init__(self, waiting: int = MOST_WAITING, each: int = EACH) -> None:
        self._watches = {noun: NounLookout(noun, _stale, most) for noun, most in KEYS_OF_A_LOOK.items()}
        self._places = Pool(waiting, each)

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return len(self._places)

    async def before(self, scope: Scope, share: str, send: Send) -> Send:
        """Wait as the request asks; what its answer is to be sent with. Raises DatabaseAway."""
        wanted = asked(scope)
        if wanted is None:
            return send
        is_fresh = await self._in_place(wanted, share)
        metrics.FRESH_READS.labels("yes" if is_fresh else "no").inc()

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[FRESH] = "yes" if is_fresh else "no"
                headers["Cache-Control"] = "no-cache"  # it is true of this moment only
            await send(message)

        return told

    async def _in_place(self, wanted: Asked, share: str) -> bool:
        if not self._places.take(share):
            return False
        try:
            return await self._wait(wanted)
        finally:
            self._places.give(share)

    async def _wait(self, wanted: Asked) -> bool:
        left = max(0.0, deadline.remaining() - FOR_THE_READ)
        wait = min(wanted.wait, left)
        until = time.monotonic() + wait
        waiting = (self._watches[noun].until_fresh(ids, until) for noun, ids in wanted.ids.items())
        try:
            async with asyncio.timeout(min(left, max(wait, FIRST_LOOK))):
                return all(await asyncio.gather(*waiting))
        except TimeoutError:
            return False


def _stale(noun: Noun, keys: Sequence[int]) -> set[int]:
    try:
        with database.fresh_snapshot() as connection:
            return diff.stale(connection, noun, keys)
    except TooLong:  # it could not be shown in time
        return set(keys)
