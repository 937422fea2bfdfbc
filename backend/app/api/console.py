"""What the page shows, as JSON and as a stream of what changes."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from backend.app.access import audit_log
from backend.app.api import database
from backend.app.api.fresh.asking import CACHED
from backend.app.api.incidents import IncidentOut
from backend.app.api.paging import RowId
from backend.app.api.problems import documented, problem
from backend.app.api.security import GUARDED, caller_of, needs, refused
from backend.app.api.security import router as guarded_router
from backend.app.api.tasks import RUNS, Instant, RunOut, run_of
from backend.app.console import audience, cities, state
from backend.app.console.page import takes_gzip
from backend.app.console.poller import Poller
from backend.app.dead_letters import letters as dead_letters
from backend.app.errors import Unprocessable
from backend.app.ledger import ledger

router = APIRouter(responses=documented(503))
console = guarded_router(prefix="/console", tags=["console"])
letters = guarded_router(
    prefix="/events/dead-letters", tags=["dead letters"], dependencies=needs("read"), responses=GUARDED
)
STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # no proxy may hold events back
SMALL: Final = 1_000  # bytes that are not worth compressing
MOST_HOURS: Final = 168  # of one plot


class State(BaseModel):
    """Everything the page shows besides the map and the plots; null: nobody has answered yet."""

    at: datetime
    health: dict[str, Any] = Field(
        description="state well, bad or unknown; since when; what is wrong, with effect and advice; parts unknown now"
    )
    unknown_since: datetime | None = Field(description="when the database answered last, while it does not; else null")
    pipeline: dict[str, Any] = Field(
        description="state ok, slow, standing or unknown; which station or server it is, and why"
    )
    freshness: dict[str, Any] = Field(description="commit to cache over the last minute, and the last canary")
    stations: list[dict[str, Any]] = Field(description="the way of an event: rate a second, depth, age, state, why")
    workers: list[str] | None = Field(description="names of the workers that take events and answer")
    changed_seconds: float | None = Field(description="since a patch changed a mapping")
    runs: dict[str, Any] | None = Field(description="active runs, and the newest of those that no event caused")
    consistency: dict[str, Any] | None = Field(
        description="nines by cache and window, and how soon a wrong row is found"
    )
    schedule: list[dict[str, Any]] | None = Field(
        description="last and next run of each entry; missed: beat stands still"
    )
    dead_letters: dict[str, Any] | None = Field(description="open ones by kind")
    incidents: list[dict[str, Any]] | None = Field(description="the newest, open or over")
    findings: list[dict[str, Any]] | None = Field(
        description="the newest rows that the auditor found wrong; mended_at: when each was right again"
    )
    findings_total: dict[str, int] | None = Field(
        description="all findings that are kept, and those that are open: not mended"
    )
    setup: dict[str, Any] = Field(description="what this installation can do, and whether it asks for a key")


class Point(BaseModel):
    """One bucket of a plot; nulls where nothing was measured."""

    at: datetime
    captured_per_second: float
    applied_per_second: float
    outbox_rows: int | None
    queue_messages: int | None
    canary_ms: float | None
    p50_ms: float | None
    p99_ms: float | None


class Spans(BaseModel):
    """What went on in some hours."""

    incidents: list[IncidentOut]
    runs: list[RunOut] = Field(description="without their results")
    is_whole: bool = Field(description="false: shorter ones are left out")


def _time(
    hours: Annotated[float, Query(ge=1, le=MOST_HOURS, description="How many, where `from` is not given.")] = 1.0,
    begin: Annotated[Instant | None, Query(alias="from", description="Where it begins.")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Where it ends; without it, now.")] = None,
) -> tuple[datetime, datetime]:
    """Begin and end of what is asked for. Raises Unprocessable."""
    end = end or datetime.now(UTC)
    try:
        begin = begin or end - timedelta(hours=hours)
        length = end - begin
    except OverflowError:
        raise Unprocessable("to: there is nothing before it") from None
    if not timedelta() < length <= timedelta(hours=MOST_HOURS):
        raise Unprocessable(f"from, to: must be {MOST_HOURS} hours apart at most, the earlier one first")
    return begin, end


Time = Annotated[tuple[datetime, datetime], Depends(_time)]


class Cities(BaseModel):
    """All cities, a row each, in the order of `columns`."""

    columns: list[str]
    rows: list[list[Any]]


class CountsThen(BaseModel):
    """Counts of a city at one look; nulls where they are unknown, or the city was not there."""

    at: datetime
    products: int | None
    services: int | None
    companies: int | None


class CityPast(BaseModel):
    """A city over the last seven days."""

    counts: list[CountsThen] = Field(description="Once an hour while somebody observes, oldest first.")
    findings: list[dict[str, Any]] = Field(description="Its rows that the auditor found wrong, newest first.")
    incidents: list[IncidentOut] = Field(
        description="What kept events of all cities waiting, and wrong rows while one was of this city; newest first."
    )


class RunStart(BaseModel):
    """How one run was started."""

    arguments: dict[str, Any] | None = Field(description="What it was given; null where nobody wrote it down.")
    started_by: str | None = Field(description="Name of the key, for admins, as far as the audit log has it.")


class Reason(BaseModel):
    """Open dead letters of one kind and reason."""

    kind: str
    reason: str
    group: str = Field(description="names this kind and reason where one asks for its letters")
    letters: int
    first: datetime
    last: datetime


@console.get("/state", response_model=State)
async def get_state(request: Request) -> Any:
    """Everything at once; a server that is away is named within 2 s."""
    return await _poller(request).current()


@console.get("/history", response_model=list[Point], responses=documented(422))
def get_history(time: Time) -> Any:
    """Freshness, rates and depths over some hours, in at most 241 buckets, oldest first."""
    database.prepare()
    return state.history(*time)


@console.get("/spans", response_model=Spans, responses=documented(422))
def get_spans(time: Time) -> Any:
    """What went on in the same hours: incidents, and runs that no event caused, the longest ones of each."""
    database.prepare()
    return state.spans(*time)


@console.get(
    "/cities",
    response_model=Cities,
    responses={304: {"description": "The client has it already."}, **documented(422)},
    dependencies=[CACHED],
)
def get_cities(request: Request) -> Response:
    """All cities with their counts, compact."""
    database.prepare()
    body = json.dumps({"columns": cities.COLUMNS, "rows": cities.everything()}, separators=(",", ":")).encode()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return compressed(request, body, "application/json", headers)


@console.get("/cities/{city_id}", response_model=CityPast, responses=documented(422))
def get_city_past(city_id: RowId) -> Any:
    """Counts of a city over a week, hour by hour, and what was wrong with it."""
    database.prepare()
    return cities.past(city_id)


@console.get("/runs/{task_id}", response_model=RunStart, responses=documented(404))
def get_run_start(task_id: str, request: Request) -> Any:
    """What a run was given, and who asked for it."""
    run = run_of(task_id)
    is_admin = refused(caller_of(request.scope), "admin") is None
    made = f"{RUNS}/{run.task_id}"
    return {
        "arguments": ledger.arguments(run.task_id),
        "started_by": audit_log.maker(made, run.queued_at) if is_admin and run.trigger == "api" else None,
    }


@console.get("/stream", include_in_schema=False)  # it never ends, which no tool that reads the schema expects
async def stream(request: Request) -> Response:
    """Server-sent events: `hello`, `state` with the sections that changed, `cities` with the rows that did."""
    try:
        messages: AsyncIterator[str] = _poller(request).stream(caller_of(request.scope).share)
    except audience.Full:
        sentence = f"{audience.MOST} clients follow this process already, or {audience.EACH} of this caller"
        return problem(503, sentence, request.url.path)
    return StreamingResponse(messages, media_type="text/event-stream", headers=STREAM_HEADERS)


@letters.get("/reasons", response_model=list[Reason])
def get_reasons() -> Any:
    """Open dead letters by kind and reason, the most frequent first."""
    database.prepare()
    return dead_letters.reasons()


def compressed(request: Request, body: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """The body, gzipped for those who take that."""
    headers = headers | {"Vary": "Accept-Encoding"}
    if len(body) > SMALL and takes_gzip(request.headers.get("accept-encoding", "")):
        body, headers = gzip.compress(body, 5), headers | {"Content-Encoding": "gzip"}
    return Response(body, headers=headers, media_type=media_type)


def stop(app: Any) -> None:
    """End the streams of an app that ends."""
    if poller := getattr(app.state, "console", None):
        poller.stop()


def _poller(request: Request) -> Poller:
    database.prepare()
    poller: Poller | None = getattr(request.app.state, "console", None)
    if poller is None or not poller.belongs_here():
        poller = request.app.state.console = Poller()
    return poller


router.include_router(console)
router.include_router(letters)
