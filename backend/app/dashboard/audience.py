"""Those who look at the console: a queue for each, and the text of server-sent events."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

MOST: Final = 50  # clients of one process
BACKLOG: Final = 200  # messages that a client may lag behind before it is let go; it comes back and gets all anew
HEARTBEAT_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.5  # how often a quiet stream looks whether the server ends


class Full(Exception):
    """As many clients look already as one process serves."""


class Audience:
    """The clients of one event loop."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[str | None]] = set()

    def __len__(self) -> int:
        return len(self._queues)

    def join(self, *first: str) -> AsyncIterator[str]:
        """The messages of a new client, `first` before all others. Raises Full at once."""
        if len(self._queues) >= MOST:
            raise Full
        queue: asyncio.Queue[str | None] = asyncio.Queue(BACKLOG)
        self._queues.add(queue)
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

    def _let_go(self, queue: asyncio.Queue[str | None]) -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _messages(self, queue: asyncio.Queue[str | None], first: tuple[str, ...]) -> AsyncIterator[str]:
        try:
            for message in first:
                yield message
            quiet = 0.0
            while not server_ends():
                try:
                    following = await asyncio.wait_for(queue.get(), LOOK_SECONDS)
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
            self._queues.discard(queue)


def event(name: str, data: Any) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'), default=str)}\n\n"


def server_ends() -> bool:
    """Whether uvicorn has been told to end. It waits for open responses, and a stream is one that never ends by itself;
    of the signal it tells nobody but its own handler's object."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
