"""Who may do what. Reading is open, unless it shows what others have written; everything else needs a key whose role
allows it: read, operate, admin. Without any key set, all is open in development and closed in production.

Every guarded request is written to the audit log with its result, refused ones too, before its answer begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.app import keys, metrics
from backend.app.api.journal import Journal
from backend.app.api.problems import documented, problem
from backend.app.audit import Entry
from backend.app.keys import Role
from backend.app.log import LONGEST_SECRET, masked
from backend.app.settings import settings

SAFE: Final = ("GET", "HEAD", "OPTIONS")
SECRET_PATHS: Final[dict[str, Role]] = {  # reading them shows what others have written, or done
    "/api/v1/events/dead-letters": "read",
    "/api/v1/audit-log": "admin",
}
ADMIN_PATHS: Final = ("/api/v1/celery/tasks/clear-all-caches",)
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="citycache"'}
LONGEST_PATH: Final = 300  # characters of a path in the audit log

# For /docs only: the middleware decides, before a body is read.
KEYS: Final = [
    Security(APIKeyHeader(name="X-API-Key", auto_error=False)),
    Security(HTTPBearer(auto_error=False)),
]
GUARDED: Final = documented(401, 403)


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    name: str | None  # None: no known key was shown
    role: Role | None
    address: str | None
    showed: bool  # whether any key was shown
    foreign: bool  # whether a page of another site sends it


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
        key = keys.find(shown, settings().keys) if shown else None
        address = scope["client"][0] if scope.get("client") else None
        scope["citycache.caller"] = Caller(
            key.name if key else None, key.role if key else None, address, bool(shown),
            foreign=origin is not None and origin.partition("://")[2] != headers.get("host"),
        )  # fmt: skip
    caller: Caller = scope["citycache.caller"]
    return caller


class Guard:
    """Refuses guarded requests without a key that allows them, and writes each one down with its result."""

    def __init__(self, app: ASGIApp, journal: Journal) -> None:
        self.app, self._journal = app, journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or answer 401 or 403."""
        role = needed(scope) if scope["type"] == "http" else None
        if role is None:
            return await self.app(scope, receive, send)
        refusal = refused(caller_of(scope), role)
        detail = refusal.sentence if refusal else None

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
                made = Headers(raw=message["headers"]).get("location")
                await self._journal.write(_entry(scope, message["status"], detail or (made and _clean(made))))
            await send(message)

        if refusal is None:
            return await self.app(scope, receive, watched)
        metrics.HTTP_REFUSED.labels(refusal.reason).inc()
        headers = CHALLENGE if refusal.status == 401 else None
        answer = problem(refusal.status, refusal.sentence, scope["path"], headers=headers)
        return await answer(scope, receive, watched)


def needed(scope: Scope) -> Role | None:
    """The role that a request needs; None: it is open."""
    path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
    for secret, role in SECRET_PATHS.items():
        if path.startswith(secret) and scope["method"] in SAFE:
            return role
    if scope["method"] in SAFE:
        return None
    return "admin" if path in ADMIN_PATHS else "operate"


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
    if keys.ROLES.index(caller.role) < keys.ROLES.index(role):
        return Refusal(403, "role", f"this needs the role {role}; the key {caller.name!r} has the role {caller.role}")
    return None


def _entry(scope: Scope, status: int, detail: str | None) -> Entry:
    caller = caller_of(scope)
    return Entry(
        caller.name, caller.role, caller.address, _clean(scope["method"])[:20], _clean(scope["path"]), status, detail
    )  # fmt: skip


def _clean(text: str) -> str:
    """What PostgreSQL takes, and no secret that somebody has put into an address."""
    cut = text[: LONGEST_PATH + LONGEST_SECRET]
    return masked(cut.encode("utf-8", "replace").decode().replace("\0", "\ufffd"))[:LONGEST_PATH]


def _shown(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return (headers.get("x-api-key") or bearer).encode("latin-1")
