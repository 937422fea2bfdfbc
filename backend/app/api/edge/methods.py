"""HEAD wherever there is GET, and which methods an address has."""

from __future__ import annotations

from typing import Any, Final

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASKED: Final = ("GET", "POST", "PATCH", "PUT", "DELETE")


class Heads:
    """Middleware: a HEAD request is answered as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as GET where it is HEAD."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self.app(scope, receive, send)
        ended = False

        async def headed(message: Message) -> None:
            nonlocal ended
            if ended:
                return
            if message["type"] == "http.response.body":
                message, ended = {"type": "http.response.body"}, True
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, headed)


def allowed(app: Any, scope: Scope) -> list[str]:
    """Methods of the address of this request; empty when nothing is there."""
    found = [name for name in ASKED if _is_routed(app, {**scope, "method": name})]
    return [*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"] if found else []


def _is_routed(app: Any, scope: Scope) -> bool:
    return any(route.matches(scope)[0] == Match.FULL for route in app.router.routes)
