"""Probes: alive, ready, and the numbers for Prometheus."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from backend.app.api import database, metrics
from backend.app.api.probe import Shared, ask_all
from backend.app.database import replica
from backend.app.health import incidents, readiness, signs
from backend.app.health.judge import Judge
from backend.app.settings import settings

router = APIRouter(tags=["health"])


class Live(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class PartOfHealth(BaseModel):
    """One part of the system."""

    name: str
    state: Literal["well", "bad", "unknown"]
    since: datetime | None = Field(description="when it went bad, as far as anybody watched")
    effect: str | None
    advice: str | None


class Ready(BaseModel):
    """Whether everything that requests need is there, and how each part is; a sentence for each that is not well.

    `degraded`: requests are served, but something needs a person.
    """

    status: Literal["ok", "degraded", "unavailable"]
    database: str
    reads: str = Field(description="of the caches: how old they may be, where a replica serves them")
    broker: str
    events: str
    parts: list[PartOfHealth]


@router.get("/health/live", response_model=Live)
async def live() -> Any:
    """Whether the process runs; asks nobody."""
    return {"status": "ok"}


@router.get("/health/ready", response_model=Ready, responses={503: {"model": Ready}})
async def ready(response: Response) -> Any:
    """Each part by itself; 503 while one that serves requests or events is bad."""
    answers = await _signs()
    verdict = _judge().judge(signs.Signs(answers["stored"], answers["carried"], answers["replica"]))
    report = readiness.report(verdict, answers["incidents"].value or [], answers["replica"].value)
    if report["status"] == "unavailable":
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return report


@router.get("/metrics", include_in_schema=False)
async def prometheus(request: Request) -> Response:
    """Numbers of this process and of the pipeline in Prometheus' text format."""
    return Response(*await metrics.exposition())


def _carried() -> Any:
    return None if settings().in_process else signs.carried()


async def _read_signs() -> dict[str, Any]:
    return await ask_all(stored=signs.stored, carried=_carried, replica=replica.look, incidents=incidents.open_now)


_signs: Final = Shared(_read_signs)


@cache
def _judge() -> Judge:
    """This process's own: it remembers between probes how long something has stood."""
    database.prepare()
    return Judge()
