"""HTTP from the socket on: uvicorn's protocol, with bounds on what one connection may hold and for how long.

The parser keeps whatever comes until a header has ended, and waits for ever; so both are bounded before it. A packet
may hold thousands of requests: they are parsed as they come to their turn, since others wait while anything is parsed.
"""

from __future__ import annotations

import asyncio
import resource
from collections import deque
from typing import Any, Final, Literal

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from backend.app.api.edge.forwarding import PEER
from backend.app.api.edge.shares import Pool, network
from backend.app.api.limits import HEADERS
from backend.app.api.problems import problem
from backend.app.telemetry import metrics

LONGEST_TARGET: Final = 8_192  # bytes of path and query
LARGEST_HEAD: Final = 32_768  # bytes of a request's line and headers
MOST_HEADERS: Final = 100
PIECE: Final = 2_048  # bytes that are parsed before others have their turn, once a request waits behind another
READ_SECONDS: Final = 10.0  # for a whole request to arrive
WRITE_SECONDS: Final = 30.0  # in which a client takes something of what it has asked for
MOST_CONNECTIONS: Final = 4_000
_OPEN_FILES: Final = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

Refusal = tuple[int, str]
TOO_LONG: Final = (414, f"the address is longer than {LONGEST_TARGET:,} bytes")
TOO_LARGE: Final = (431, f"the headers are larger than {LARGEST_HEAD:,} bytes, or more than {MOST_HEADERS}")
TOO_SLOW: Final = (408, f"the request did not arrive within {READ_SECONDS:g} s")
TOO_MANY: Final = (503, "this address has as many connections as one may have, or all are taken")
INVALID: Final = (400, "this is not a valid HTTP request")


def _connections() -> Pool:
    """Files are for other things as well; one address gets half of the connections."""
    places = min(MOST_CONNECTIONS, max(16, _OPEN_FILES // 2)) if _OPEN_FILES > 0 else MOST_CONNECTIONS
    return Pool(places, places // 2)


class Stop(Exception):
    """The parser is told to stop."""


class PatientFlow(FlowControl):
    """Reads nothing more from a connection while what has come waits, whoever asks for more."""

    def __init__(self, transport: asyncio.Transport, ahead: bytearray) -> None:
        super().__init__(transport)
        self._ahead = ahead

    def resume_reading(self) -> None:
        """Read on, if nothing waits."""
        if not self._ahead:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    pool: Pool = _connections()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._caller: str | None = None  # who holds a place of the pool
        self._in_head, self._head = False, 0  # bytes of the present head, but for its first piece
        self._refusal: Refusal = INVALID
        self._timers: dict[Literal["read", "write"], asyncio.TimerHandle] = {}
        self._ahead = bytearray()  # that has come and is not parsed yet: a request before it waits behind another
        self._answering: deque[RequestResponseCycle] = deque()  # requests that have come and wait for their answers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place of the pool, or end."""
        super().connection_made(transport)
        self.flow = PatientFlow(transport, self._ahead)
        caller = network(self.client[0] if self.client else None)
        if not self.pool.take(caller):
            return self._refuse(TOO_MANY)
        self._caller = caller
        self._within("read", READ_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        for timer in self._timers.values():
            timer.cancel()
        if self._caller is not None:
            self.pool.give(self._caller)
            self._caller = None
        self._ahead.clear()
        for cycle in self._answering:  # uvicorn tells the last one only
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, as far as it is its turn."""
        self._ahead += data
        self._parse()

    def on_response_complete(self) -> None:
        """One request is answered; the next one has its turn."""
        super().on_response_complete()
        if self._ahead:
            self.loop.call_soon(self._parse)

    def _parse(self) -> None:
        """Feed the parser, which must come to the end of a head in time."""
        while self._ahead and not self.pipeline and not self.transport.is_closing():
            piece = bytes(self._ahead[:PIECE])
            del self._ahead[:PIECE]
            if "read" not in self._timers:
                self._within("read", READ_SECONDS)
            self._head += len(piece) if self._in_head else 0
            super().data_received(piece)
            if self._head > LARGEST_HEAD and not self.transport.is_closing():
                self._refuse(TOO_LONG if not self.headers and len(self.url) > LONGEST_TARGET else TOO_LARGE)
        if self._ahead:
            self.flow.pause_reading()
            self._cancel("read")  # it is ours to go on
        elif self.cycle is None or self.cycle.response_complete:
            self.flow.resume_reading()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head, self._size = True, 0, 0
        self.scope[PEER] = (self.client, self.scheme)  # type: ignore[typeddict-unknown-key]

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        super().on_url(url)
        if len(self.url) > LONGEST_TARGET:
            self._stop(TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        super().on_header(name, value)
        self._size += len(name) + len(value)
        if self._size > LARGEST_HEAD or len(self.headers) > MOST_HEADERS:
            self._stop(TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head, self._head = False, 0
        super().on_headers_complete()
        while self._answering and self._answering[0].response_complete:
            self._answering.popleft()
        if self.cycle is not None:
            self._answering.append(self.cycle)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self._cancel("read")
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not take what it has asked for."""
        super().pause_writing()
        self._within("write", WRITE_SECONDS)

    def resume_writing(self) -> None:
        """It does again."""
        self._cancel("write")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What the parser does not take is refused, with the reason that stopped it."""
        self._refuse(self._refusal)

    def _stop(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise Stop

    def _within(self, what: Literal["read", "write"], seconds: float) -> None:
        self._cancel(what)
        self._timers[what] = self.loop.call_later(seconds, self._late, what)

    def _cancel(self, what: Literal["read", "write"]) -> None:
        if timer := self._timers.pop(what, None):
            timer.cancel()

    def _late(self, what: Literal["read", "write"]) -> None:
        self._timers.pop(what, None)
        if what == "read" and self.cycle is None:
            return self._refuse(TOO_SLOW)
        metrics.HTTP_REFUSED.labels("slow").inc()
        self.transport.abort()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and end the connection."""
        metrics.HTTP_REFUSED.labels({408: "slow", 503: "connections"}.get(refusal[0], "head")).inc()
        answer = problem(*refusal, headers={**HEADERS, "Connection": "close"})
        lines = [name + b": " + value + b"\r\n" for name, value in answer.raw_headers]
        self.transport.write(b"".join([STATUS_LINE[refusal[0]], *lines, b"\r\n", bytes(answer.body)]))
        self.transport.close()
