"""Those who look at the console: a queue for each, and the text of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from backend.app.api.edge import server
from backend.app.api.edge.shares import Pool

MOST: Final = 64  # clients of one process
EACH: Final = 8  # of them with one key or address
BACKLOG: Final = 200  # messages that a client may lag behind before it is let go; it comes back and gets all anew
HEARTBEAT_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.5  # how often a quiet stream looks whether the server ends


class Full(Exception):
    """As many clients look already as one process serves, or as one caller may have."""


class Audience:
    """The clients of one event loop."""

    def __init__(self) -> None:
        self._queues: dict[asyncio.Queue[str | None], str] = {}  # by client, whose it is
        self._places = Pool(MOST, EACH)

    def __len__(self) -> int:
        return len(self._queues)

    def join(self, caller: str, *first: str) -> AsyncIterator[str]:
        """The messages of a new client of this caller, `first` before all others. Raises Full at once."""
        if not self._places.take(caller):
            raise Full
        queue: asyncio.Queue[str | None] = asyncio.Queue(BACKLOG)
        self._queues[queue] = caller
        return self._messages(queue, first)

    def send(self, message: str) -> None:
        """To everybody; whoever does not keep up is let go."""
        for queue in list(self._queues):
            if queue.full():
                self._let_go(queue)
            else:
                queue.put_nowait(message)

    def close(self) -> None:
        """End all streams."""
        for queue in list(self._queues):
            self._let_go(queue)

    def _leave(self, queue: asyncio.Queue[str | None]) -> None:
        if (caller := self._queues.pop(queue, None)) is not None:
            self._places.give(caller)

    def _let_go(self, queue: asyncio.Queue[str | None]) -> None:
        self._leave(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _messages(self, queue: asyncio.Queue[str | None], first: tuple[str, ...]) -> AsyncIterator[str]:
        try:
            for message in first:
                yield message
            quiet = 0.0
            while not server.ends():
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        following = await queue.get()
                except TimeoutError:
                    quiet += LOOK_SECONDS
                    if quiet >= HEARTBEAT_SECONDS:
                        quiet = 0.0
                        yield ": nothing new\n\n"
                    continue
                if following is None:
                    return
                yield following
        finally:
            self._leave(queue)


def event(name: str, data: Any) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'), default=str)}\n\n"
