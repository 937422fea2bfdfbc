"""What is wrong, and what was: incidents with their beginning, end, effect and advice."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from backend.app.api import database
from backend.app.api.paging import BIGINT_MAX
from backend.app.api.problems import documented
from backend.app.api.security import router as guarded_router
from backend.app.api.tasks import Instant
from backend.app.api.values import FilterText
from backend.app.health import incidents
from backend.app.health.kinds import KINDS

router = guarded_router(prefix="/incidents", tags=["health"], responses=documented(422, 503))


class IncidentOut(BaseModel):
    """One incident."""

    id: int
    kind: str = Field(description=", ".join(KINDS))
    subject: str = Field(description="which one, of several of a kind; else empty")
    severity: Literal["critical", "warning"]
    began_at: datetime
    ended_at: datetime | None = Field(description="null: it is open")
    values: dict[str, Any]
    effect: str = Field(description="what it means, as a sentence")
    advice: str = Field(description="what to do")


class Incidents(BaseModel):
    """Incidents, newest first."""

    items: list[IncidentOut]
    next: str | None = Field(description="Path and query of the next page; null on the last one.")


@router.get("", response_model=Incidents)
def list_incidents(
    request: Request,
    response: Response,
    open: Annotated[bool, Query(description="Only those that are open.")] = False,
    kind: FilterText = None,
    since: Annotated[Instant | None, Query(description="Only those that had not ended before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[int | None, Query(ge=0, le=BIGINT_MAX, description="An incident's id: older ones.")] = None,
) -> Any:
    """What is wrong, and what was, newest first."""
    database.prepare()
    found = [one.as_dict() for one in incidents.listed(limit + 1, kind, open, since, before)]
    following = None
    if len(found) > limit:
        url = request.url.include_query_params(before=found[limit - 1]["id"], limit=limit)
        following = f"{url.path}?{url.query}"
        response.headers["Link"] = f'<{following}>; rel="next"'
    return {"items": found[:limit], "next": following}
