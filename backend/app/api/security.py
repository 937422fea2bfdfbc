"""Who may change something: with API_KEY set, only those who show it; in production without one, nobody."""

from __future__ import annotations

import hmac
from typing import Final

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.app.api.problems import documented, problem
from backend.app.settings import settings

SAFE: Final = ("GET", "HEAD", "OPTIONS")
SECRET_PATHS: Final = ("/api/v1/events/dead-letters",)  # reading them shows what others have written
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="citycache"'}

# For /docs only: the middleware decides, before a body is read.
KEYS: Final = [
    Security(APIKeyHeader(name="X-API-Key", auto_error=False)),
    Security(HTTPBearer(auto_error=False)),
]
GUARDED: Final = documented(401, 403)


class Guard:
    """Refuses guarded requests without the key: every method that may change something, and secret paths."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or answer 401 or 403."""
        if scope["type"] == "http" and _is_guarded(scope) and (refusal := _refusal(Headers(scope=scope))):
            status, sentence = refusal
            headers = CHALLENGE if status == 401 else None
            return await problem(status, sentence, scope["path"], headers=headers)(scope, receive, send)
        return await self.app(scope, receive, send)


def _is_guarded(scope: Scope) -> bool:
    return scope["method"] not in SAFE or scope["path"].startswith(SECRET_PATHS)


def _refusal(headers: Headers) -> tuple[int, str] | None:
    key = settings().api_key
    if not key:
        closed = settings().app_env == "production"
        return (403, "this is closed in production until API_KEY is set") if closed else None
    if not (shown := _shown(headers)):
        return 401, "this needs the API key, as X-API-Key or as Authorization: Bearer"
    return None if hmac.compare_digest(shown, key.encode()) else (401, "the API key is wrong")


def _shown(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return (headers.get("x-api-key") or bearer).encode("latin-1")
