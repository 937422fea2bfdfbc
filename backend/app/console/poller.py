"""One poller for all who look at the console in this process: it asks once, and tells each of them what changed."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from backend.app.console import cities, state
from backend.app.console.audience import Audience, event
from backend.app.console.question import Question
from backend.app.console.readings import Stored, stored
from backend.app.console.stations import Look
from backend.app.console.trend import Trend
from backend.app.console.verdict import Health, Judged
from backend.app.database import replica
from backend.app.database.replica import ReplicaSigns
from backend.app.health import incidents, signs
from backend.app.health.answer import Answer
from backend.app.health.inspector import Waiting
from backend.app.health.signs import Signs
from backend.app.settings import settings

log = logging.getLogger(__name__)
STATE_SECONDS: Final = 1.0
CITIES_SECONDS: Final = 0.4
WAITING_SECONDS: Final = 1.0  # between two questions to broker and workers, which may take longer than a look
SLOW_SECONDS: Final = 3.0  # between two looks at what changes slowly
ASK_SECONDS: Final = 0.8  # with the pause before it: a database that is away is told within 2 s
ASK_WAITING_SECONDS: Final = 3.0  # workers have time to reply, and a broker to confirm; one that hangs is told later
LOOK_SECONDS: Final = 0.2  # between two looks whether anybody is there
LINGER_SECONDS: Final = 15.0  # the poller goes on for, after the last one looked
RETRY: Final = "retry: 2000\n\n"  # milliseconds until a browser comes back
HELLO: Final = event("hello", {})
Turn = tuple[float, Callable[[], Awaitable[None]]]  # every so many seconds


class Poller:
    """Of one event loop; asks only while somebody looks."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._audience = Audience()
        self._attending: asyncio.Task[None] | None = None
        self._wanted_until = 0.0
        self._state: dict[str, Any] = {}
        self._told = asyncio.Event()
        self._watching = False  # whether changes of cities are known from now on
        self._trend, self._watch = Trend(), cities.CityDeltas()
        self._health = Health()
        self._waiting: Answer[Waiting] | None = None  # None: not asked yet
        self._waiting_asked = asyncio.Event()
        self._ask_signs: Question[signs.StoredSigns] = Question(lambda: signs.stored())
        self._ask_waiting: Question[Waiting] = Question(lambda: signs.carried())
        self._ask_replica: Question[ReplicaSigns | None] = Question(replica.look)
        self._ask_incidents: Question[incidents.Overview] = Question(lambda: incidents.overview())
        self._ask_stored: Question[Stored] = Question(stored)
        self._ask_runs = Question(state.runs)
        self._ask_slow = Question(state.slow_sections)
        self._ask_cities = Question(lambda: self._watch.look())
        self._sections = state.Sections()
        self._slow_at = 0.0  # monotonic seconds, when to look again
        self._known_at: datetime | None = None  # when the database answered last
        self._canary: tuple[float, float] | None = None  # (its ms, monotonic seconds when it came through)

    def belongs_here(self) -> bool:
        """Whether this is the poller of the running event loop."""
        return self._loop is asyncio.get_running_loop()

    async def current(self) -> dict[str, Any]:
        """The state, a second old at most."""
        self._want()
        await self._told.wait()  # each look has its deadlines
        return self._state

    def stream(self, caller: str) -> AsyncIterator[str]:
        """Server-sent events for one client of a caller. Raises audience.Full.

        `hello` says that from here on no change of a city is missed: then is the time to read all of them.
        """
        self._want()
        greeting = [RETRY, HELLO] if self._watching else [RETRY]
        known = [event("state", self._state)] if self._told.is_set() else []
        return self._audience.join(caller, *greeting, *known)

    def stop(self) -> None:
        """End all streams and the poller."""
        self._audience.close()
        if self._attending is not None:
            self._attending.cancel()

    def _want(self) -> None:
        """Have it run, in a context of its own: free of the deadline of the request that asks for it."""
        self._wanted_until = time.monotonic() + LINGER_SECONDS
        if self._attending is not None and not self._attending.done():
            return
        self._told.clear()
        self._watching = False
        self._state, self._slow_at = {}, 0.0
        self._trend, self._watch = Trend(), cities.CityDeltas()  # what happened while nobody looked is nobody's news
        self._health, self._waiting, self._known_at = Health(), None, None
        self._waiting_asked.clear()
        self._attending = self._loop.create_task(self._attend(), context=contextvars.Context())

    async def _attend(self) -> None:
        """Take all turns for as long as anybody looks; they begin and end together, so none is ever missing."""
        turns = [self._loop.create_task(self._repeat(seconds, turn)) for seconds, turn in self._turns()]
        try:
            while self._is_wanted():
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for turn in turns:
                turn.cancel()

    def _is_wanted(self) -> bool:
        """Whether somebody looks, or did a moment ago."""
        now = time.monotonic()
        if len(self._audience):
            self._wanted_until = now + LINGER_SECONDS
        return now <= self._wanted_until

    def _turns(self) -> list[Turn]:
        turns: list[Turn] = [(STATE_SECONDS, self._turn_state), (CITIES_SECONDS, self._turn_cities)]
        return turns if settings().in_process else [(WAITING_SECONDS, self._turn_waiting), *turns]

    async def _repeat(self, seconds: float, turn: Callable[[], Awaitable[None]]) -> None:
        while True:
            began = time.monotonic()
            try:
                await turn()
            except Exception:
                log.exception("the console's poller failed and goes on")
            await asyncio.sleep(max(0.05, seconds - (time.monotonic() - began)))

    async def _turn_cities(self) -> None:
        if (delta := (await self._ask_cities(ASK_SECONDS)).value) is None:
            return
        if not self._watching:
            self._watching = True
            self._audience.send(HELLO)
        if delta.rows or delta.removed:
            self._audience.send(event("cities", vars(delta)))

    async def _turn_state(self) -> None:
        fresh = await self._look()
        changed = {name: value for name, value in fresh.items() if self._state.get(name) != value}
        self._state = fresh
        self._told.set()
        self._audience.send(event("state", changed))

    async def _turn_waiting(self) -> None:
        self._waiting = await self._ask_waiting(ASK_WAITING_SECONDS)
        self._waiting_asked.set()

    async def _look(self) -> dict[str, Any]:
        stored_, judged, _, _ = await asyncio.gather(
            self._ask_stored(ASK_SECONDS), self._judge(), self._look_at_runs(), self._look_slowly()
        )
        if stored_.value is not None or self._known_at is None:
            self._known_at = datetime.now(UTC)
        look = Look(stored_, self._carried(), self._trend.take(time.monotonic(), stored_.value), judged.stands)
        return state.assemble(look, self._canary_of(stored_.value), self._sections, judged, self._known_at)

    async def _judge(self) -> Judged:
        found, beside, overview, _ = await asyncio.gather(
            self._ask_signs(ASK_SECONDS), self._ask_replica(ASK_SECONDS), self._ask_incidents(ASK_SECONDS),
            self._first_waiting(),
        )  # fmt: skip
        told = Signs(found, self._waiting or Answer(), beside)
        return self._health.take(told, overview.value, self._waiting is not None)

    async def _first_waiting(self) -> None:
        """At first health waits for broker and workers, but not long."""
        if not settings().in_process:
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_SECONDS):
                    await self._waiting_asked.wait()

    def _carried(self) -> Answer[Waiting]:
        return Answer() if settings().in_process else self._waiting or Answer(failure="no answer in time")

    async def _look_at_runs(self) -> None:
        if found := (await self._ask_runs(ASK_SECONDS)).value:
            self._sections = replace(self._sections, runs=found)

    async def _look_slowly(self) -> None:
        """While the database is away, what was known of it stays."""
        if time.monotonic() < self._slow_at:
            return
        if found := (await self._ask_slow(ASK_SECONDS)).value:
            self._slow_at = time.monotonic() + SLOW_SECONDS
            self._sections = replace(found, runs=self._sections.runs)

    def _canary_of(self, found: Stored | None) -> state.LastCanary:
        now = time.monotonic()
        if found is not None and found.canary_ms is not None and found.canary_seconds is not None:
            self._canary = (found.canary_ms, now - found.canary_seconds)
        ms, at = self._canary or (None, None)
        return state.LastCanary(ms, None if at is None else now - at)
