"""Limits for every caller: how large a body may be, how many requests a second; and headers that browsers obey."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.app.api.problems import documented, problem
from backend.app.api.security import caller_of
from backend.app.settings import settings
from backend.app.telemetry import metrics

LARGEST_BODY: Final = 2**20  # bytes
MOST_DIGITS: Final = len(str(LARGEST_BODY))
BURST_SECONDS: Final = 2.0  # of the rate may come at once
MOST_CALLERS: Final = 10_000  # remembered; the one that came least lately is forgotten
COUNTED: Final = "citycache.counted"  # key of a scope whose request has taken its token
UNLIMITED: Final = ("/health/", "/metrics")  # probes must not fail because somebody else is busy
TOO_LARGE: Final = f"the body is larger than {LARGEST_BODY:,} bytes"
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass
class Bucket:
    """What one caller may still send."""

    tokens: float
    at: float  # monotonic seconds


class Buckets:
    """Token buckets by caller, in this process."""

    def __init__(self, rate: float) -> None:
        self._rate, self._size = rate, max(1.0, rate * BURST_SECONDS)
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def wait(self, caller: str, now: float) -> float:
        """Take a token: 0, or the seconds until there is one."""
        bucket = self._buckets.pop(caller, None) or Bucket(self._size, now)
        self._buckets[caller] = bucket
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._size, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._rate
        bucket.tokens -= 1
        return 0.0


class Allowances:
    """What callers may still send to this application, by the settings."""

    def __init__(self) -> None:
        self._buckets: Buckets | None = None

    def wait(self, share: str) -> float:
        """Take a token of this caller: 0, or the seconds until there is one."""
        if not (rate := settings().rate_limit_per_second):
            return 0.0
        self._buckets = self._buckets or Buckets(rate)
        return self._buckets.wait(share, time.monotonic())


class Limits:
    """Middleware: 413 for a body that is too large, 429 for a caller that is too quick."""

    def __init__(self, app: ASGIApp, rates: Allowances) -> None:
        self.app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if seconds := self._wait(scope):
            metrics.HTTP_REFUSED.labels("rate").inc()
            headers = {"Retry-After": str(math.ceil(seconds))}
            sentence = f"more than {settings().rate_limit_per_second:g} requests a second; come again later"
            return await problem(429, sentence, scope["path"], headers=headers)(scope, receive, send)
        if _is_larger(Headers(scope=scope).get("content-length", "").lstrip("0")):
            metrics.HTTP_REFUSED.labels("size").inc()
            return await problem(413, TOO_LARGE, scope["path"])(scope, receive, send)
        return await self.app(scope, _counted(receive), send)

    def _wait(self, scope: Scope) -> float:
        if COUNTED in scope or scope["path"].startswith(UNLIMITED):
            return 0.0
        return self._rates.wait(caller_of(scope).share)


def _is_larger(digits: str) -> bool:
    """Whether a number without leading zeros is larger than the largest body, however many digits it has."""
    return digits.isascii() and digits.isdigit() and (len(digits) > MOST_DIGITS or int(digits) > LARGEST_BODY)


def _counted(receive: Receive) -> Receive:
    """Bodies without a length are counted as they come."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > LARGEST_BODY:
            metrics.HTTP_REFUSED.labels("size").inc()
            raise HTTPException(413, TOO_LARGE)
        return message

    return counted


class SafeHeaders:
    """Middleware: headers of every answer, unless the answer has stricter ones of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add what is missing."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        return await self.app(scope, receive, watched)


def describe(paths: dict[str, Any]) -> None:
    """Put the answers of these limits, and of the deadline, into OpenAPI's paths."""
    for path, operations in paths.items():
        if path.startswith(UNLIMITED):
            continue
        for method, operation in operations.items():
            refusals = (414, 429, 431, 503) if method == "get" else (413, 414, 429, 431, 503)
            for status, answer in documented(*refusals).items():
                operation["responses"].setdefault(str(status), answer)
