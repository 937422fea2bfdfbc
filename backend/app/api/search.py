"""Search for the console: what a few letters may mean."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from backend.app.api import database
from backend.app.api.problems import documented
from backend.app.api.security import GUARDED, needs
from backend.app.api.security import router as guarded_router
from backend.app.api.values import MOST, SEEN
from backend.app.console import search

router = guarded_router(
    prefix="/console/search",
    tags=["console"],
    dependencies=needs("read"),
    responses={**GUARDED, **documented(422, 503)},
)
Kind = Literal["city", "company", "product", "run", "event"]


class HitOut(BaseModel):
    """A row of the catalog, a run or an event."""

    kind: Kind
    id: str
    name: str | None = Field(description="Of a run its task, of an event its subject, such as product/123.")
    external_id: str | None
    state: str | None = Field(description="Of a run.")
    task_id: str | None = Field(description="Of an event: the run that applied it.")
    at: datetime | None = Field(description="When a run was queued; when an event was captured, applied or buried.")


class HitsOut(BaseModel):
    """What may be meant."""

    items: list[HitOut] = Field(description=f"At most {search.LIMIT} of a kind and way: by event, run, id, then name.")
    incomplete: list[Kind] = Field(description="Kinds that could not be looked through in time: there may be more.")


@router.get("", response_model=HitsOut)
def find(
    q: Annotated[
        str,
        Query(
            min_length=1,
            max_length=MOST,
            pattern=SEEN,
            description="An id, an external id, the beginning of a name or of a run's id, or an event's id.",
            examples=["berl"],
        ),
    ],
) -> Any:
    """Rows by id, external id or the beginning of their name, runs by the beginning of their id, and recent events."""
    database.prepare()
    return search.search(q)
