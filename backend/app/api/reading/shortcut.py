"""The short way of a read that has been asked for before: past middlewares, router and dependencies.

An address is decided by its route, once. What a request may still differ in is looked at here: who asks and how often,
by which name, and headers that want more than the document. Whatever is unusual, or takes long, goes the long way,
which has the last word.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import cache
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from backend.app.api import deadline
from backend.app.api.conditional import Document
from backend.app.api.edge import forwarding, hosts
from backend.app.api.edge.shares import network
from backend.app.api.fresh.asking import FRESH
from backend.app.api.limits import COUNTED, Allowances
from backend.app.api.reading.answers import Answers, Known
from backend.app.errors import CitycacheError
from backend.app.settings import settings
from backend.app.telemetry import metrics, tracing

log = logging.getLogger(__name__)
SECONDS: Final = 0.5  # for a statement, after which the long way tells why it takes so long
MOST_NAMES: Final = 1_000  # of this server that are remembered
UNUSUAL: Final = frozenset((b"x-api-key", b"authorization", FRESH.lower().encode()))


class Shortcut:
    """Around all middlewares: answers here what it can, and lets the rest pass."""

    def __init__(self, app: ASGIApp, answers: Answers, rates: Allowances, seconds: float) -> None:
        """`seconds`: in which a request is answered, whichever way it goes."""
        self.app = app
        self._answers, self._rates, self._seconds = answers, rates, seconds
        self._names: dict[bytes, bool] = {}  # whether a host is answered
        self._settings: Any = None  # for which that holds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not await self._is_answered(scope, send):
            await self.app(scope, receive, send)

    async def _is_answered(self, scope: Scope, send: Send) -> bool:
        if scope["type"] != "http" or scope["method"] != "GET" or not (known := self._answers.known(scope)):
            return False
        begun = time.perf_counter()
        if tracing.enabled() or not self._is_usual(scope):
            return False
        forwarding.tell(scope)
        share = network(scope["client"][0] if scope["client"] else None)
        if self._rates.wait(share):
            return False
        scope[COUNTED], scope[deadline.UNTIL] = True, time.monotonic() + self._seconds
        try:
            document = await self._answers.kept(known) or await self._read(known, share)
        except (TimeoutError, CitycacheError):  # the long way tells it as a problem
            return False
        except Exception:
            log.exception("a read of %s failed on the short way and goes the long one", known.route)
            return False
        status = await document.send(scope, send)
        _duration(known.route, status).observe(time.perf_counter() - begun)
        return True

    async def _read(self, known: Known, share: str) -> Document:
        async with asyncio.timeout(SECONDS):
            return await self._answers.read(known, share)

    def _is_usual(self, scope: Scope) -> bool:
        host = None
        for name, value in scope["headers"]:
            if name in UNUSUAL or (name == b"host" and host is not None):
                return False
            if name == b"host":
                host = value
        return host is not None and self._is_ours(host, scope)

    def _is_ours(self, host: bytes, scope: Scope) -> bool:
        if self._settings is not settings() or len(self._names) > MOST_NAMES:
            self._settings, self._names = settings(), {}
        if host not in self._names:
            self._names[host] = hosts.is_answered(hosts.named(scope), scope["path"])
        return self._names[host]


@cache
def _duration(route: str, status: int) -> Any:
    return metrics.HTTP_SECONDS.labels("GET", route, str(status))
