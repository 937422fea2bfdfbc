"""Conditional reads: a strong ETag of the body, Last-Modified from the caches, and 304 for who has it already."""

from __future__ import annotations

import hashlib
import math
from datetime import MAXYEAR, UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from backend.app.api.fresh.asking import FRESH
from backend.app.api.limits import HEADERS
from backend.app.settings import settings

SETTLED: Final = timedelta(seconds=1)  # HTTP dates have seconds: a younger change may not be the second's last
CONDITIONS: Final = (b"if-none-match", b"if-modified-since")
Validated: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "The client has it already."}}


class Document(Response):
    """JSON with its validators, the same for everyone who asks: all of it, or 304 for who has it already.

    `changed`: when what it shows was changed last. `unwritten_at`: an instant, by the clock that dated the change, from
    before which no later change can be dated. Without one If-Modified-Since is not honored: a transaction may have
    dated what it has yet to commit. `following`: the address of the next page.
    """

    def __init__(
        self,
        content: bytes,
        changed: datetime | None = None,
        unwritten_at: datetime | None = None,
        following: str | None = None,
    ) -> None:
        self._etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self._dated = changed if unwritten_at is not None else None
        headers = {**HEADERS, "ETag": self._etag, **_told_to_proxies(settings().shared_cache_seconds)}
        if changed is not None:
            headers["Last-Modified"] = format_datetime(_as_http_date(changed, unwritten_at), usegmt=True)
        if following is not None:
            headers["Link"] = f'<{following}>; rel="next"'
        super().__init__(content, headers=headers, media_type="application/json")
        self._told = [header for header in self.raw_headers if header[0] not in (b"content-length", b"content-type")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or 304."""
        await self.send(scope, send)

    async def send(self, scope: Scope, send: Send) -> int:
        """The same; the status."""
        has_it = self._is_had(scope)
        told, status = (self._told, 304) if has_it else (self.raw_headers, 200)
        await send({"type": "http.response.start", "status": status, "headers": list(told)})
        await send({"type": "http.response.body", "body": b"" if has_it else self.body})
        return status

    def _is_had(self, scope: Scope) -> bool:
        asked = {name: value for name, value in scope["headers"] if name in CONDITIONS}
        if not asked:
            return False
        if (tags := asked.get(b"if-none-match")) is not None:
            said = tags.decode("latin-1")
            return said.strip() == "*" or self._etag in [tag.strip().removeprefix("W/") for tag in said.split(",")]
        return self._dated is not None and _is_since(self._dated, asked[b"if-modified-since"].decode("latin-1"))


def _told_to_proxies(seconds: int) -> dict[str, str]:
    """Browsers always ask whether it still holds; a proxy after so many seconds, and for whoever waits for a write."""
    if not seconds:
        return {"Cache-Control": "no-cache"}
    return {"Cache-Control": f"public, max-age=0, s-maxage={seconds}", "Vary": FRESH}


def _is_since(changed: datetime, date: str) -> bool:
    try:
        return changed <= parsedate_to_datetime(date).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return False


def _as_http_date(changed: datetime, unwritten_at: datetime | None) -> datetime:
    """Rounded up once the second is over and no other change can be of it; else down, so that the client asks again."""
    instant = changed.astimezone(UTC)
    if instant.year == MAXYEAR:  # the last one that there is, of a time that lies beyond
        return instant.replace(microsecond=0)
    rounded = datetime.fromtimestamp(math.ceil(instant.timestamp()), UTC)
    if unwritten_at is not None and rounded + SETTLED <= unwritten_at:
        return rounded
    return instant.replace(microsecond=0)
