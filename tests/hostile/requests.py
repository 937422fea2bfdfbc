"""HTTP requests that nobody who means well sends, by kind, as bytes on a socket."""

from __future__ import annotations

import json
import random as randomness
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple

from backend.app.api.edge.protocol import READ_SECONDS
from tests.hostile.tally import Tally

SOURCE: Final = "127.0.0.66"  # what one address may hold is limited, and others come from another one
AT_ONCE: Final = 6  # connections
PATIENCE: Final = READ_SECONDS + 8  # seconds until a server has closed whatever is sent
STREAM_SECONDS: Final = 3.0  # that an event stream is listened to
AWAY_SECONDS: Final = 1.0  # until the next request to an API that does not run
MOST_READ: Final = 200_000  # bytes of an answer
PATHS: Final = (
    "/health/live", "/health/ready", "/metrics", "/", "/api/v1/cities", "/api/v1/products", "/api/v1/companies/1",
    "/api/v1/celery/tasks", "/api/v1/celery/stats", "/api/v1/events/dead-letters", "/api/v1/incidents",
    "/api/v1/caches/explain/product/1", "/api/v1/console/stream",
)  # fmt: skip
BODIES: Final = ("/api/v1/cities", "/api/v1/companies", "/api/v1/products", "/api/v1/celery/tasks/replay-events")
ODD_TEXTS: Final = (
    "\n", "\r\n", "\r\n\r\n", "\0", "%00", "%0a", "%0d%0aX-A:%20b", "%ff", "%c0%af", "%25%32%66", "..%2f..", "//",
    "%u0000", "%", "\u2028", "é", "\U0001f4a9", "%ed%a0%80", "'; DROP TABLE cities; --", "{{7*7}}", "\x1b[31m", "%s%n",
)  # fmt: skip
NUMBERS: Final = ("-1", "0", str(2**63 - 1), str(2**63), str(-(2**63)), "9" * 400, "1e400", "NaN", "٣", "1_0", " 1")


class Request(NamedTuple):
    """What is sent on one connection."""

    kind: str
    pieces: tuple[bytes, ...]  # with a moment between them
    hangs_up: bool = False  # at once, without reading


def requests(random: randomness.Random) -> Iterator[Request]:
    """Each kind once, with values by chance, in any order."""
    found = [request for make in KINDS for request in make(random)]
    random.shuffle(found)
    yield from found


def _get(path: str, *headers: bytes, method: bytes = b"GET", host: bytes = b"localhost") -> bytes:
    line = method + b" " + path.encode("utf-8", "surrogateescape") + b" HTTP/1.1"
    return b"\r\n".join([line, b"Host: " + host, b"Connection: close", *headers, b"", b""])


def _post(random: randomness.Random, body: bytes, *headers: bytes, length: object = None) -> bytes:
    given = headers or (b"Content-Type: application/json",)
    announced = f"Content-Length: {len(body) if length is None else length}".encode()
    return _get(random.choice(BODIES), *given, announced, method=b"POST") + body


def _addresses(random: randomness.Random) -> Iterator[Request]:
    for length in (1_000, 8_000, 30_000, 100_000, 1_000_000):
        yield Request("long address", (_get(f"{random.choice(PATHS)}?{random.choice('a%=&/+') * length}"),))
    for text in ODD_TEXTS:
        yield Request("odd address", (_get(random.choice(PATHS) + random.choice(["/", "?", "?limit=", ""]) + text),))
    for number in NUMBERS:
        noun = random.choice(["cities", "products", "companies", "caches/explain/product"])
        yield Request("odd id", (_get(f"/api/v1/{noun}/{number}"),))
    for name in (
        "limit",
        "before",
        "after",
        "state",
        "task",
        "since",
        "until",
        "fresh",
        "wait",
        "sort",
        "open",
        "kind",
    ):
        value = random.choice([*NUMBERS, *ODD_TEXTS, "product/1," * 2_000, "0001-01-01", "9999-12-31T23:59:59Z"])
        yield Request("odd parameter", (_get(f"{random.choice(PATHS)}?{name}={value}".replace(" ", "+")),))
    yield Request(
        "raw bytes in the address", (b"GET /" + random.randbytes(200) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",)
    )


def _headers(random: randomness.Random) -> Iterator[Request]:
    for name in (b"X-Forwarded-For", b"X-Api-Key", b"Cookie", b"traceparent", b"Origin", b"Citycache-Fresh", b"X-A"):
        for length in (5_000, 40_000, 1_000_000):
            yield Request("huge header", (_get("/health/live", name + b": " + b"a" * length),))
        yield Request("odd header", (_get(random.choice(PATHS), name + b": " + random.choice(ODD_TEXTS).encode()),))
    yield Request("many headers", (_get("/health/live", *(b"X-%d: 1" % number for number in range(5_000))),))
    for host in (b"evil.example", b"", b"localhost:99999", b"a" * 5_000, b"[::1", b"\xff", b"localhost\r\nHost: b"):
        yield Request("odd host", (_get(random.choice(PATHS), host=host),))
    for method in (b"TRACE", b"HEAD", b"OPTIONS", b"PUT", b"get", b"CONNECT", b"PROPFIND", b"G\0T", b"A" * 5_000):
        yield Request("odd method", (_get(random.choice(PATHS), method=method),))
    for headers in (
        (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: x"), (b"Expect: 100-continue",),
        (b"Range: bytes=0-,0-,0-",), (b"Accept: " + b"a/b," * 5_000,), (b"Accept-Encoding: gzip;q=" + b"9" * 5_000,),
        (b"Authorization: Basic \xff\xff",), (b"Authorization: Bearer " + b"x" * 20_000,),
        (b"If-Modified-Since: never",),
    ):  # fmt: skip
        yield Request("odd header", (_get(random.choice(PATHS), *headers),))


def _bodies(random: randomness.Random) -> Iterator[Request]:
    for body in (
        b"", b"{", b"[" * 100_000, b"9" * 100_000, b'{"name": 1e999}', b"NaN", b'{"name": "\\ud83d"}', b"\xff\xfe",
        b'{"name": "\\u0000"}', b'"x"', b"null", b"{" + b'"a":1,' * 50_000 + b'"b":1}',
        b'{"name":"' + b"a" * 5_000_000 + b'"}',
        json.dumps({"name": "x", "latitude": 10**400}).encode(), b'{"from_offset": 1e300}', b'{"since": "year 1"}',
    ):  # fmt: skip
        yield Request("odd body", (_post(random, body),))
    for headers in (
        (b"Content-Type: text/\xff",),
        (b"Content-Encoding: gzip",),
        (b"Content-Type: multipart/form-data",),
    ):
        yield Request("odd content type", (_post(random, b"{}", *headers),))
    for length in (-1, 10**30, "1\r\nContent-Length: 2", "x", "", "1, 2", "0" * 5_000 + "2"):
        yield Request("wrong content length", (_post(random, b"{}", length=length),))
    chunked = (b"Content-Type: application/json", b"Transfer-Encoding: chunked")
    for chunks in (
        b"zz\r\n",
        b"ffffffffffffffffffff\r\n",
        b"-1\r\nx",
        b"1\r\n{\r\n" * 500,
        b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ):
        yield Request("odd chunks", (_get(BODIES[0], *chunked, method=b"POST") + chunks,))
    yield Request("length and chunks", (_post(random, b"0\r\n\r\n", *chunked),))


def _connections(random: randomness.Random) -> Iterator[Request]:
    whole = _get(random.choice(PATHS))
    for cut in sorted(random.sample(range(len(whole)), 3)):
        yield Request("half sent", (whole[:cut],))
    yield Request("half a body", (_post(random, b"{", length=1_000),))
    yield Request("sent byte by byte", tuple(bytes([byte]) for byte in whole[:60]))
    yield Request("hung up", (whole,), hangs_up=True)
    alive = _get("/health/live").replace(b"Connection: close\r\n", b"")
    yield Request("pipelined", (alive * 300,))
    yield Request(
        "pipelined", (_get("/api/v1/console/stream").replace(b"close", b"keep-alive") + alive * 50,), hangs_up=True
    )
    yield Request("pipelined garbage", (alive + random.randbytes(500) + alive,))
    yield Request("blank lines", (b"\r\n" * 20_000,))
    yield Request("not HTTP", (random.randbytes(1_000),))
    yield Request("not HTTP", (b"\x16\x03\x01\x02\x00" + random.randbytes(300),))
    yield Request("not HTTP", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(200),))
    yield Request("odd version", (whole.replace(b"1.1", random.choice([b"9.9", b"0.9", b"1.1.1", b"x"])),))
    for _ in range(20):
        yield Request("event stream", (_get("/api/v1/console/stream"),), hangs_up=random.random() < 0.5)
    for _ in range(10):
        yield Request("loop of an expensive page", (_get(random.choice(["/metrics", "/api/v1/celery/stats"])),))


KINDS: Final[tuple[Callable[[randomness.Random], Iterator[Request]], ...]] = (
    _addresses, _headers, _bodies, _connections,
)  # fmt: skip


class Asker:
    """Sends them from an address of its own, a few at a time, again and again."""

    def __init__(self, port: int, seed: int, tally: Tally) -> None:
        self._port, self._dice, self._tally = port, randomness.Random(seed), tally

    def work(self, stop: threading.Event) -> None:
        """Until stopped."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while not stop.is_set():
                list(pool.map(lambda request: self._send(request, stop), list(requests(self._dice))))

    def _send(self, request: Request, stop: threading.Event) -> None:
        if stop.wait(0.05):
            return
        begin, kind = time.monotonic(), f"request: {request.kind}"
        outcome = self._outcome(request, stop)
        stop.wait(AWAY_SECONDS if outcome == "API away" else 0)
        seconds = time.monotonic() - begin
        self._tally.note(kind, outcome)
        if outcome.startswith("5") and outcome != "503":
            self._tally.complain(kind, f"{outcome} to {request.pieces[0][:200]!r}")
        if outcome == "held" and not stop.is_set():
            self._tally.complain(kind, f"held for {seconds:.1f} s: {request.pieces[0][:200]!r}")

    def _outcome(self, request: Request, stop: threading.Event) -> str:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 5, source_address=(SOURCE, 0)) as connection:
                with suppress(ConnectionError):  # it may answer before it has read all
                    for piece in request.pieces:
                        connection.sendall(piece)
                        stop.wait(0.02 if len(request.pieces) > 1 else 0)
                return _hang_up(connection) if request.hangs_up else _answer(connection, request.kind, stop)
        except ConnectionRefusedError:
            return "API away"
        except ConnectionError:
            return "closed"
        except TimeoutError:
            return "not taken"


def _hang_up(connection: socket.socket) -> str:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return "hung up"


def _answer(connection: socket.socket, kind: str, stop: threading.Event) -> str:
    """The first status that comes back; the rest is read until the server closes."""
    found, begin = b"", time.monotonic()
    connection.settimeout(0.5)
    while time.monotonic() < begin + (STREAM_SECONDS if found and kind == "event stream" else PATIENCE):
        with suppress(TimeoutError):
            piece = connection.recv(65_536)
            found = found[:MOST_READ] + piece
            if not piece:
                return _status(found, "closed")
        if stop.is_set():
            break
    return _status(found, "held")


def _status(answer: bytes, otherwise: str) -> str:
    return answer[9:12].decode(errors="replace") if answer.startswith(b"HTTP/") else otherwise
