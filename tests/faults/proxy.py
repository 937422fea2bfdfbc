"""A TCP proxy between processes and their server, to make networks fail: reset, hold, delay, half-open."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

CHUNK: Final = 64 * 1024
ABORT: Final = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends RST instead of FIN
Value = TypeVar("Value")


@dataclass(eq=False)
class Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    task: asyncio.Task[None]  # passes bytes on
    forgotten: bool = False  # whatever comes is thrown away, and no side hears of the other's end

    def abort(self) -> None:
        """RST to both sides."""
        for writer in (self.client, self.server):
            if not writer.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            writer.transport.abort()
        self.task.cancel()


class Proxy:
    """Listens on a port of its own and passes everything on to one server, in a thread of its own."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        """In front of that port, where nobody need listen yet."""
        self._target = (host, port)
        self._links: set[Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self._flows, self._healed = asyncio.Event(), asyncio.Event()
        self._flows.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy of {port}", daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def url(self, behind: str) -> str:
        """A server's URL with this proxy's port in place of the server's own."""
        parts = urlsplit(behind)
        account, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{account}{at}127.0.0.1:{self.port}"))

    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    def reset(self) -> int:
        """RST to all connections; how many there were."""
        return self._do(lambda: self._abort(lambda link: True))

    def half_open(self) -> int:
        """Forget all present connections without a word to either side; new ones work. How many there were."""
        return self._do(self._forget)

    def hold(self) -> None:
        """Nothing passes any more, in old and new connections, and nobody is told."""
        self._do(self._flows.clear)

    def delay(self, seconds: float) -> None:
        """What passes comes this much later."""
        self._do(self._healed.clear)
        self._delay = seconds

    def heal(self) -> None:
        """What was held or delayed goes on its way, forgotten connections are reset."""
        self._delay = 0.0
        self._do(self._healed.set)
        self._do(self._flows.set)
        self._do(lambda: self._abort(lambda link: link.forgotten))

    def close(self) -> None:
        """Close the port and all connections, end the thread."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connect(reader, client))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _connect(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            await self._flows.wait()
            answers, server = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):
            client.transport.abort()
            return
        link = Link(client, server, _current())
        self._links.add(link)
        try:
            await asyncio.gather(self._pass_on(reader, server, link), self._pass_on(answers, client, link))
        except asyncio.CancelledError:
            pass
        finally:
            self._links.discard(link)
            client.transport.abort()
            server.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link) -> None:
        """One direction, until its sender ends; then the other side's connection ends too."""
        try:
            while data := await reader.read(CHUNK):
                await self._flows.wait()
                if self._delay:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._delay):
                            await self._healed.wait()
                if not link.forgotten:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        if link.forgotten:
            await asyncio.Event().wait()  # until the link is aborted
        writer.close()

    def _abort(self, which: Callable[[Link], bool]) -> int:
        links = [link for link in self._links if which(link)]
        for link in links:
            link.abort()
        return len(links)

    def _forget(self) -> int:
        for link in self._links:
            link.forgotten = True
        return len(self._links)

    async def _end(self) -> None:
        self._server.close()
        self._abort(lambda link: True)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _do(self, action: Callable[[], Value]) -> Value:
        """Run it in the proxy's thread."""

        async def act() -> Value:
            return action()

        return self._call(act())

    def _call(self, work: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


def _current() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task
