"""Which names this API answers to.

A page from elsewhere can have its own name lead to this machine (DNS rebinding); for the browser it is of one origin
with us then, and may read and send what it likes. Only the Host header tells. While no key is set it must be a loopback
name, or one of ALLOWED_HOSTS; with a key any name does unless ALLOWED_HOSTS is set.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from backend.app.api.problems import problem
from backend.app.settings import settings
from backend.app.telemetry import metrics

LONGEST: Final = 300  # characters; names have 253 at most
PROBED: Final = ("/health/", "/metrics")  # asked by machines, under addresses and names of a private network
SENTENCE: Final = "this name is not answered: use localhost, or set API_KEY, or name the host in ALLOWED_HOSTS"


class Hosts:
    """Middleware: 421 for a request to a name that is not ours."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or refuse it."""
        if scope["type"] != "http" or is_answered(named(scope), scope["path"]):
            return await self.app(scope, receive, send)
        metrics.HTTP_REFUSED.labels("host").inc()
        await problem(421, SENTENCE, scope["path"])(scope, receive, send)


def is_answered(host: str, path: str) -> bool:
    """Whether requests to this name (lower case, without port) are answered."""
    known = settings()
    if is_loopback(host) or host in known.hosts or (known.keys and not known.hosts):
        return True
    return path.startswith(PROBED) and _needs_no_public_name(host)


def is_loopback(host: str) -> bool:
    """localhost and 127.0.0.0/8 and ::1."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _needs_no_public_name(host: str) -> bool:
    """An address, or a name without dots, such as a service of compose: nobody outside can have it lead here."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return bool(host) and "." not in host


def named(scope: Scope) -> str:
    """The one Host header without its port; empty when there is none, several, or no such thing."""
    found = [value for name, value in scope["headers"] if name == b"host"]
    text = found[0].decode("latin-1").strip().lower() if len(found) == 1 else ""
    if len(text) > LONGEST:
        return ""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")
