"""The caches themselves: active cities, and why a row is what it is."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field

from backend.app.api import database
from backend.app.api.conditional import Document, Validated
from backend.app.api.fresh.asking import CACHED
from backend.app.api.paging import RowId
from backend.app.api.problems import documented
from backend.app.api.reading.lookup import encode, of_rows
from backend.app.api.security import router as guarded_router
from backend.app.caches import reads
from backend.app.caches.diff import Noun
from backend.app.caches.explain import explain
from backend.app.caches.reads import Row
from backend.app.errors import NotFound

router = guarded_router(
    prefix="/caches", tags=["caches"], responses={**documented(404, 422, 503), **Validated}, dependencies=[CACHED]
)


class ActiveCities(BaseModel):
    """One row of the active-cities cache."""

    cache_type: Literal["products", "companies"]
    active_city_ids: list[int]
    total_cities: int
    total_companies: int
    total_products: int
    last_updated: datetime


class PatchOut(BaseModel):
    """A patch that wrote or removed the cached row, or moved the city's counts."""

    task: str
    task_id: str | None
    subject: str | None = Field(description="Whose event asked for it: the row, its company, or a row of the city.")
    event_id: str | None = Field(description="Null for a rebuild, and where a batch's events cannot be told apart.")
    time: datetime
    traceparent: str | None


class ExplanationOut(BaseModel):
    """Why the cache holds what it holds."""

    subject: str
    source: dict[str, Any] | None
    cached: dict[str, Any] | None
    wanted: dict[str, Any] | None
    agrees: bool
    last_patch: PatchOut | None
    patches: list[PatchOut] = Field(description="The last ten, newest first; of a city, those that moved its counts.")
    patches_since: datetime | None = Field(description="Time of the oldest patch of any key that is still remembered.")
    pending_events: int


@router.get("/active-cities/{cache_type}", response_model=ActiveCities)
async def get_active_cities(cache_type: Literal["products", "companies"], request: Request) -> Any:
    """Cities that have anything at all, and totals."""

    def told(rows: list[Row]) -> Document:
        if not rows:
            raise NotFound(f"the cache has no row {cache_type!r}")
        row = rows[0]
        unwritten_at = row.pop("unwritten_at")
        return Document(encode(row), row["last_updated"], unwritten_at)

    return await request.app.state.answers.of(request, of_rows(reads.active_cities(cache_type), told, "caches"))


@router.get("/explain/product/{row_id}", response_model=ExplanationOut)
def explain_product(row_id: RowId) -> Any:
    """Source row, cached row, agreement and last patches of a product."""
    return _explained("product", row_id)


@router.get("/explain/company/{row_id}", response_model=ExplanationOut)
def explain_company(row_id: RowId) -> Any:
    """Source row, cached row, agreement and last patches of a company."""
    return _explained("company", row_id)


@router.get("/explain/city/{row_id}", response_model=ExplanationOut)
def explain_city(row_id: RowId) -> Any:
    """A city, its counts as they are and as they should be, and the patches that moved them last."""
    return _explained("city", row_id)


def _explained(noun: Noun, row_id: int) -> Document:
    with database.snapshot() as connection:
        found = explain(connection, noun, row_id)
    return Document(ExplanationOut(**asdict(found)).model_dump_json().encode())
