"""Whose request it is: the address at the other end of the connection, or what a named proxy says of it.

Servers believe proxies by rules of their own (uvicorn: any on this machine). What counts here is the connection itself,
which our protocol leaves in the scope, and TRUSTED_PROXIES.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.app.access.addresses import Network
from backend.app.settings import settings

PEER: Final = "citycache.peer"  # key of a scope: address, port and scheme of the connection
MOST_HOPS: Final = 20  # proxies on the way of one request
LONGEST: Final = 64  # characters of an address, with brackets and port


class Forwarded:
    """Middleware: sets client and scheme of a request by its connection, and by what trusted proxies say."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say whose request it is, and pass it on."""
        if scope["type"] == "http":
            tell(scope)
        await self.app(scope, receive, send)


def tell(scope: Scope) -> None:
    """Put the client and the scheme into a scope; the same again when it is called again."""
    client, scheme = scope.pop(PEER, None) or (scope.get("client"), scope["scheme"])
    scope["client"], scope["scheme"] = client, scheme
    if not (trusted := settings().proxies):
        return
    peer = client and _address(client[0])
    if not (peer and _is_among(peer, trusted)):
        return
    headers = Headers(scope=scope)
    if found := _asker(headers.getlist("x-forwarded-for"), trusted):
        scope["client"] = (found, 0)
    if (said := headers.get("x-forwarded-proto", "").strip().lower()) in ("http", "https"):
        scope["scheme"] = said


def _asker(lists: Iterable[str], trusted: tuple[Network, ...]) -> str | None:
    """The last address that no trusted proxy has; whatever stands before it may be invented."""
    found = None
    for said in reversed(",".join(lists).rsplit(",", MOST_HOPS)[-MOST_HOPS:]):
        address = _address(said)
        if address is None:
            return found
        found = str(address)
        if not _is_among(address, trusted):
            return found
    return found


def _address(said: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]:80"; None for anything else."""
    text = said.strip()
    if len(text) > LONGEST:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_among(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
