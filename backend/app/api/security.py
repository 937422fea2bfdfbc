"""Who may do what. Reading is open, unless it shows what others have written; everything else needs a key whose role
allows it: read, operate, admin. Without any key set, all is open in development and closed in production.

The role hangs on the route, and is asked for when the router has chosen the route: nothing else decides what an
address means. What changes something is written to the audit log with its result before its answer begins; what is
refused, too, but many of one kind are one entry and a count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Final

from fastapi import APIRouter, Depends, Security
from fastapi.params import Security as SecurityParameter
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from backend.app.access import api_keys
from backend.app.access.api_keys import Role
from backend.app.access.audit_log import AuditEntry
from backend.app.api.audit_writer import AuditWriter
from backend.app.api.edge import paths
from backend.app.api.edge.shares import network
from backend.app.api.edge.turns import Turns
from backend.app.api.fresh.asking import CACHED
from backend.app.api.fresh.lookout import Lookout
from backend.app.api.problems import documented, problem
from backend.app.catalog import definition
from backend.app.errors import Refused
from backend.app.settings import settings
from backend.app.telemetry import metrics

READING: Final = frozenset({"GET", "HEAD"})
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="citycache"'}
GUARDED: Final = documented(401, 403)


def needs(role: Role) -> list[Any]:
    """Dependencies of a route, or of all routes of a router, that want a key with this role; the highest one counts."""
    return [Security(scheme, scopes=[role]) for scheme in (_HEADER, _BEARER)]


def writes(role: Role) -> list[Any]:
    """The same for routes that write the catalog, which only its owner does."""
    return [*needs(role), Depends(_own_catalog)]


def _own_catalog() -> None:
    if definition.current().is_adopted:
        raise Refused("the catalog belongs to another system, which writes it: its changes are followed here")


_HEADER: Final = APIKeyHeader(name="X-API-Key", auto_error=False)
_BEARER: Final = HTTPBearer(auto_error=False)


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    name: str | None  # None: no known key was shown
    role: Role | None
    address: str | None
    showed: bool  # whether any key was shown
    foreign: bool  # whether a page of another site sends it

    @property
    def share(self) -> str:
        """Whose part of rates and pools it uses."""
        return self.name or network(self.address)


@dataclass(frozen=True)
class Refusal:
    """Why not."""

    status: int
    reason: str  # for metrics
    sentence: str


def caller_of(scope: Scope) -> Caller:
    """Who sends this request: found once, kept in its scope."""
    if "citycache.caller" not in scope:
        headers = Headers(scope=scope)
        shown, origin = _shown(headers), headers.get("origin")
        key = api_keys.find(shown, settings().keys) if shown else None
        address = scope["client"][0] if scope.get("client") else None
        scope["citycache.caller"] = Caller(
            key.name if key else None, key.role if key else None, address, bool(shown),
            foreign=origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower(),
        )  # fmt: skip
    caller: Caller = scope["citycache.caller"]
    return caller


class GuardedRoute(APIRoute):
    """A route that asks for the role which hangs on it; one that changes something must have a role."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.role = _role_of(self.dependencies)
        self.reads_caches = CACHED in self.dependencies
        if self.role is None and not READING.issuperset(self.methods or ()):
            raise TypeError(f"{path} changes something and needs a role")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass that this route has been chosen for, or answer 401 or 403."""
        if self.role is None or scope["method"] not in (self.methods or ()):
            return await self._in_turn(scope, receive, send)
        audit: AuditWriter = scope["app"].state.audit
        refusal = refused(caller_of(scope), self.role)
        detail = refusal.sentence if refusal else None

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
                made = Headers(raw=message["headers"]).get("location")
                if refusal or scope["method"] not in READING:  # reading adds nothing
                    entry = _entry(scope, message["status"], detail or (made and made[: paths.LONGEST]))
                    await audit.keep(entry, refused=refusal is not None)
            await send(message)

        if refusal is None:
            return await self._in_turn(scope, receive, watched)
        metrics.HTTP_REFUSED.labels(refusal.reason).inc()
        headers = CHALLENGE if refusal.status == 401 else None
        await problem(refusal.status, refusal.sentence, paths.told(scope), headers=headers)(scope, receive, watched)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What needs a thread waits for the caller's turn, but not with it."""
        if self.reads_caches:
            lookout: Lookout = scope["app"].state.lookout
            send = await lookout.before(scope, caller_of(scope).share, send)
        if iscoroutinefunction(self.endpoint):
            return await super().handle(scope, receive, send)
        turns: Turns = scope["app"].state.turns
        async with turns.of(caller_of(scope).share):
            await super().handle(scope, receive, send)


def router(**options: Any) -> APIRouter:
    """A router whose routes are guarded by the roles that hang on them."""
    return APIRouter(route_class=GuardedRoute, **options)


def _role_of(dependencies: Sequence[Any]) -> Role | None:
    named = [name for one in dependencies if isinstance(one, SecurityParameter) for name in one.scopes or ()]
    return max((role for role in api_keys.ROLES if role in named), key=api_keys.ROLES.index, default=None)


def refused(caller: Caller, role: Role) -> Refusal | None:
    """Why this caller may not do what needs `role`; None when it may."""
    known = settings().keys
    if not known:
        if settings().app_env == "production":
            return Refusal(403, "closed", "this is closed in production until API_KEY is set")
        return Refusal(403, "foreign", "a page of another site asks for this") if caller.foreign else None
    if not caller.showed:
        return Refusal(401, "key", "this needs an API key, as X-API-Key or as Authorization: Bearer")
    if caller.role is None:
        return Refusal(401, "key", "the API key is wrong")
    if api_keys.ROLES.index(caller.role) < api_keys.ROLES.index(role):
        return Refusal(403, "role", f"this needs the role {role}; the key {caller.name!r} has the role {caller.role}")
    return None


def _entry(scope: Scope, status: int, detail: str | None) -> AuditEntry:
    caller = caller_of(scope)
    return AuditEntry(caller.name, caller.role, caller.address, scope["method"], paths.told(scope), status, detail)


def _shown(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return (headers.get("x-api-key") or bearer).encode("latin-1")
