"""What could not be applied, and why; send it again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field, model_validator

from backend.app.api import database, deadline
from backend.app.api.paging import BIGINT_MAX
from backend.app.api.problems import documented
from backend.app.api.security import GUARDED, needs
from backend.app.api.security import router as guarded_router
from backend.app.api.values import Body, Reference
from backend.app.dead_letters import letters
from backend.app.dead_letters.requeue import Chosen, requeue

router = guarded_router(
    prefix="/events/dead-letters",
    tags=["dead letters"],
    dependencies=needs("read"),
    responses={**GUARDED, **documented(422, 503)},
)
Kind = Literal["unreadable", "unknown_type", "failed", "undeliverable"]
Reason = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00]+$")]
LAST_PART_SECONDS = 0.7  # of a request's time, for the part of letters that is begun last
GROUP = r"^[0-9a-f]{32}$"  # one kind and reason; short enough for an address, whatever the reason says


class DeadLetterOut(BaseModel):
    """One message or key that could not be applied."""

    id: int
    kind: Kind
    reason: str
    subject: str | None
    event_id: str | None
    event_type: str | None
    content_type: str | None
    headers: dict[str, Any] | None
    payload: str | None
    payload_encoding: str
    attempts: int
    task_id: UUID | None
    buried_at: datetime
    requeued_at: datetime | None
    closed_at: datetime | None
    closed_because: str | None
    closed_by: UUID | None


class DeadLetters(BaseModel):
    """Dead letters, newest first."""

    items: list[DeadLetterOut]
    next: str | None


class Requeue(Body):
    """Which open letters to send again: some ids, those of a kind, of a reason, of a group or of all these, or all."""

    ids: Annotated[list[Reference], Field(min_length=1, max_length=10_000)] | None = None
    kind: Kind | None = None
    reason: Reason | None = None
    group: Annotated[str, Field(pattern=GROUP)] | None = None
    all: bool = False

    @model_validator(mode="after")
    def _one_choice(self) -> Requeue:
        if [self.ids is not None, bool(self.kind or self.reason or self.group), self.all].count(True) != 1:
            raise ValueError("give ids, or kind, reason and group, or all")
        return self


class Requeued(BaseModel):
    """How many letters were sent again."""

    requeued: int
    more: bool = Field(description="There was no time for all: others may be open. Send the same request again.")


@router.get("", response_model=DeadLetters)
def list_dead_letters(
    request: Request,
    response: Response,
    state: Literal["open", "closed", "all"] = "open",
    kind: Kind | None = None,
    reason: Annotated[str | None, Query(min_length=1, max_length=2000, pattern=r"^[^\x00]+$")] = None,
    group: Annotated[str | None, Query(pattern=GROUP, description="One kind and reason, as /reasons names it.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[int | None, Query(ge=0, le=BIGINT_MAX, description="A letter's id: older ones.")] = None,
) -> Any:
    """Dead letters with payload, reason, key and time, newest first."""
    database.prepare()
    found = letters.listed(state, kind, reason, group, limit + 1, before)
    following = None
    if len(found) > limit:
        url = request.url.include_query_params(before=found[limit - 1]["id"], limit=limit)
        following = f"{url.path}?{url.query}"
        response.headers["Link"] = f'<{following}>; rel="next"'
    return {"items": found[:limit], "next": following}


@router.post("/requeue", status_code=202, response_model=Requeued, dependencies=needs("operate"))
def requeue_dead_letters(chosen: Requeue) -> Any:
    """Send letters again: by id, by kind, reason or group, or all open ones, as many as there is time for."""
    database.prepare()
    seconds = deadline.remaining() - LAST_PART_SECONDS
    return asdict(requeue(Chosen(chosen.ids, chosen.kind, chosen.reason, chosen.group), seconds))
