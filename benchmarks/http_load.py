"""Readers: connections that ask for the same addresses again and again, each as soon as it has its answer.

A process of its own, `python -m benchmarks.http_load PORT CONNECTIONS SECONDS PATH…`, so that it does not share the
interpreter with whoever measures. It prints answers a second, and milliseconds by quantile, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import uvloop

from benchmarks.measure import quantiles


@dataclass(frozen=True)
class Load:
    """What readers have seen."""

    rate: float  # answers a second
    p50: float  # ms
    p99: float


class LoadFailed(RuntimeError):
    """An answer was not 200, or there was none."""


class _Reader(asyncio.Protocol):
    def __init__(self, paths: Sequence[str], end: float, waits: list[float]) -> None:
        self._requests = cycle([f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths])
        self._end, self._waits = end, waits
        self._came = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, ended, body = self._came.partition(b"\r\n\r\n")
        if not ended or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        now = time.perf_counter()
        self._waits.append((now - self._asked) * 1000)
        self._came = b""
        if b" 200 " not in head.partition(b"\r\n")[0]:
            self._fail(head.decode(errors="replace"))
        elif now > self._end:
            self._transport.close()
            self.done.set_result(None)
        else:
            self._ask()

    def connection_lost(self, failure: Exception | None) -> None:
        self._fail("the connection ended")

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadFailed(why))


async def _read(port: int, connections: int, seconds: float, paths: Sequence[str]) -> Load:
    loop, waits = asyncio.get_running_loop(), list[float]()
    begin = time.perf_counter()
    readers = [
        (await loop.create_connection(lambda: _Reader(paths, begin + seconds, waits), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(reader.done for reader in readers))
    found = quantiles(waits)
    return Load(len(waits) / (time.perf_counter() - begin), found["p50"], found["p99"])


def read(port: int, paths: Sequence[str], seconds: float, connections: int = 8) -> Load:
    """Read with so many connections. Raises LoadFailed."""
    command = [sys.executable, "-m", "benchmarks.http_load", str(port), str(connections), str(seconds), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise LoadFailed(done.stderr[-2_000:])
    return Load(**json.loads(done.stdout))


if __name__ == "__main__":
    found = uvloop.run(_read(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
    print(json.dumps(found.__dict__))
