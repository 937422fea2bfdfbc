"""Keyset paging: `limit` and `after` in, `items` and the address of the next page out, also as a Link header."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import URL

from backend.app.errors import Unprocessable

BIGINT_MIN: Final = -(2**63)
BIGINT_MAX: Final = 2**63 - 1
Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=500, description="Rows of one page.")]
After = Annotated[
    str | None, Query(max_length=2000, description="Where the last page ended; taken from `next`.", examples=["120"])
]
RowId = Annotated[int, Path(ge=BIGINT_MIN, le=BIGINT_MAX)]
FilterId = Annotated[int | None, Query(ge=BIGINT_MIN, le=BIGINT_MAX)]


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next: str | None = Field(description="Path and query of the next page; null on the last one.")


def cursor_of(values: Sequence[Any]) -> str:
    """Sort key of a page's last row → cursor; an id alone stays readable."""
    if len(values) == 1:
        return str(values[0])
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def key_of(cursor: str | None, *kinds: type) -> list[Any] | None:
    """Cursor → sort key with values of these types; raises Unprocessable for what no page has given out."""
    if cursor is None:
        return None
    try:
        values = [int(cursor)] if len(kinds) == 1 else _unpacked(cursor)
    except (ValueError, binascii.Error, RecursionError):
        raise Unprocessable("after: not a cursor of this list") from None
    right = len(values) == len(kinds) and all(type(value) is kind for value, kind in zip(values, kinds, strict=True))
    if not right or not all(_fits(value) for value in values):
        raise Unprocessable("after: not a cursor of this list")
    return values


def id_of(cursor: str | None) -> int | None:
    """The same for lists in the order of their ids."""
    key = key_of(cursor, int)
    return None if key is None else int(key[0])


def page(request: Request, response: Response, rows: Sequence[Any], limit: int, cursor: Any) -> dict[str, Any]:
    """`rows` has one row more than `limit` when there is a next page; `cursor` makes a row's cursor."""
    next_page = following(request.url, rows, limit, cursor)
    if next_page is not None:
        response.headers["Link"] = f'<{next_page}>; rel="next"'
    return {"items": rows[:limit], "next": next_page}


def following(url: URL, rows: Sequence[Any], limit: int, cursor: Callable[[Any], str]) -> str | None:
    """Path and query of the page after these rows; None on the last one."""
    if len(rows) <= limit:
        return None
    wanted = url.include_query_params(after=cursor(rows[limit - 1]), limit=limit)
    return f"{wanted.path}?{wanted.query}"


def _unpacked(cursor: str) -> list[Any]:
    values = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    if not isinstance(values, list):
        raise ValueError
    return values


def _fits(value: Any) -> bool:
    if isinstance(value, int):
        return BIGINT_MIN <= value <= BIGINT_MAX
    return "\0" not in value and _is_text(value)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
