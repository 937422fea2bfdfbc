"""Conditional reads: a strong ETag of the body, Last-Modified from the caches, and 304 for who has it already."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final

from fastapi import Request, Response
from pydantic import BaseModel

SETTLED: Final = timedelta(seconds=1)  # HTTP dates have seconds: a younger change may not be the second's last
Validated: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "The client has it already."}}


def answer(
    request: Request,
    response: Response,
    body: BaseModel,
    changed: datetime | None,
    unwritten_at: datetime | None = None,
) -> Response:
    """The body with its validators, or 304.

    `unwritten_at`: an instant, by the clock that dated the change, from before which no later change can be dated.
    Without one If-Modified-Since is not honored: a transaction may have dated what it has yet to commit.
    """
    content = body.model_dump_json().encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**response.headers, "ETag": etag, "Cache-Control": "no-cache"}
    headers.pop("content-length", None)
    if changed is not None:
        headers["Last-Modified"] = format_datetime(_as_http_date(changed, unwritten_at), usegmt=True)
    if _has_it(request, etag, changed if unwritten_at is not None else None):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def _has_it(request: Request, etag: str, changed: datetime | None) -> bool:
    if (tags := request.headers.get("if-none-match")) is not None:
        return tags.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    if changed is None or (since := request.headers.get("if-modified-since")) is None:
        return False
    try:
        return changed <= parsedate_to_datetime(since).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return False


def _as_http_date(changed: datetime, unwritten_at: datetime | None) -> datetime:
    """Rounded up once the second is over and no other change can be of it; else down, so that the client asks again."""
    instant = changed.astimezone(UTC)
    rounded = datetime.fromtimestamp(math.ceil(instant.timestamp()), UTC)
    if unwritten_at is not None and rounded + SETTLED <= unwritten_at:
        return rounded
    return instant.replace(microsecond=0)
