"""Read the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from backend.app.access import audit_log
from backend.app.api import database
from backend.app.api.paging import BIGINT_MAX
from backend.app.api.problems import documented
from backend.app.api.security import GUARDED, needs
from backend.app.api.security import router as guarded_router
from backend.app.api.values import FilterText

router = guarded_router(
    prefix="/audit-log", tags=["audit log"], dependencies=needs("admin"), responses={**GUARDED, **documented(422, 503)}
)


class AuditEntryOut(BaseModel):
    """One guarded request and how it ended."""

    id: int
    at: datetime
    name: str | None = Field(description="Of the key; null: no known key was shown.")
    role: str | None
    address: str | None
    method: str
    path: str
    status: int
    detail: str | None = Field(description="Why it was refused, or what it made.")


class Entries(BaseModel):
    """Entries, newest first."""

    items: list[AuditEntryOut]
    next: str | None = Field(description="Path and query of the next page; null on the last one.")


@router.get("", response_model=Entries)
def list_audit_log(
    request: Request,
    response: Response,
    name: FilterText = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[int | None, Query(ge=0, le=BIGINT_MAX, description="An entry's id: older ones.")] = None,
) -> Any:
    """Who did what, newest first; `name` is that of a key. Needs the role admin."""
    database.prepare()
    found = audit_log.listed(limit + 1, before, name)
    following = None
    if len(found) > limit:
        url = request.url.include_query_params(before=found[limit - 1]["id"], limit=limit)
        following = f"{url.path}?{url.query}"
        response.headers["Link"] = f'<{following}>; rel="next"'
    return {"items": found[:limit], "next": following}
