"""Start tasks, and read how their runs go, from the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, model_validator

from backend.app.access.api_keys import Role
from backend.app.api import database
from backend.app.api.paging import BIGINT_MAX, RowId
from backend.app.api.problems import documented
from backend.app.api.security import GUARDED, needs
from backend.app.api.security import router as guarded_router
from backend.app.api.values import Body, FilterText
from backend.app.caches import diff
from backend.app.errors import NotFound
from backend.app.ledger import ledger
from backend.app.tasks import rebuilds
from backend.app.tasks.replay import ReplayRange, replay_events
from backend.app.tasks.roster import CITY, REPLAY, TASKS, TaskKind
from backend.app.tasks.task import start

router = guarded_router(prefix="/celery/tasks", tags=["tasks"], responses=documented(422, 503))
RUNS: Final = f"/api/v1{router.prefix}"  # below which each run has its address

State = Literal["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED", "EXPIRED", "SKIPPED"]


class Started(BaseModel):
    """A run that has been queued."""

    task_id: UUID
    task: str
    state: Literal["PENDING"]
    status_url: str


class RunOut(BaseModel):
    """One run of a task, whoever started it."""

    task_id: UUID
    task: str
    trigger: Literal["api", "beat", "event", "replay", "cli"]
    state: State
    progress: Any | None
    result: Any | None
    error: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Runs(BaseModel):
    """Runs, newest first."""

    items: list[RunOut]
    next: str | None = Field(description="Path and query of the next page; null on the last one.")


def _instant(given: Any) -> Any:
    """RFC 3339 texts only: numbers would be read as seconds since 1970."""
    if not isinstance(given, str):
        raise ValueError("must be a text like 2026-11-24T08:00:00Z")
    return datetime.fromisoformat(given)


Instant = Annotated[AwareDatetime, BeforeValidator(_instant, json_schema_input_type=AwareDatetime)]


class ReplayRequest(Body):
    """What to replay: from an offset of the log or from an instant, up to an instant or to the log's end."""

    since: Instant | None = None
    until: Instant | None = None
    from_offset: Annotated[int, Field(ge=0, le=BIGINT_MAX)] | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_beginning(self) -> ReplayRequest:
        if self.since is not None and self.from_offset is not None:
            raise ValueError("give either since or from_offset, not both")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("since must be before until")
        return self


@router.get("", response_model=Runs)
def list_runs(
    request: Request,
    response: Response,
    state: State | None = None,
    task: FilterText = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[UUID | None, Query(description="A run's id: older ones than this.")] = None,
) -> Any:
    """Active runs; with any of state, task, limit or before: the history, newest first."""
    database.prepare()
    if not request.query_params:
        return {"items": [run.as_dict() for run in ledger.active()], "next": None}
    found = ledger.history(state, task, limit + 1, before)
    following = None
    if len(found) > limit:
        url = request.url.include_query_params(before=found[limit - 1].task_id, limit=limit)
        following = f"{url.path}?{url.query}"
        response.headers["Link"] = f'<{following}>; rel="next"'
    return {"items": [run.as_dict() for run in found[:limit]], "next": following}


@router.get("/{task_id}", response_model=RunOut, responses=documented(404))
def get_run(task_id: str) -> Any:
    """State of one run; 404 for an id that was never issued."""
    return run_of(task_id).as_dict()


def run_of(task_id: str) -> ledger.Run:
    """The run of this id. Raises NotFound, DatabaseAway."""
    database.prepare()
    try:
        run = ledger.run(UUID(task_id))
    except ValueError:
        run = None
    if run is None:
        raise NotFound(f"there is no run {task_id}")
    return run


def _start(request: Request, response: Response, task: Any, **arguments: Any) -> Any:
    database.prepare()
    run = start(task, trigger="api", **arguments)
    status_url = f"{RUNS}/{run.task_id}"
    response.headers["Location"] = status_url
    return {"task_id": run.task_id, "task": run.task, "state": "PENDING", "status_url": status_url}


def _post(kind: TaskKind, *refusals: int) -> Callable[..., Any]:
    role: Role = kind.role or "admin"
    path, responses = f"/{kind.name.replace('_', '-')}", {**GUARDED, **documented(*refusals)}
    if kind.of:
        path += f"/{{{kind.of}}}"
    return router.post(path, status_code=202, response_model=Started, dependencies=needs(role), responses=responses)


def _endpoint(kind: TaskKind) -> Callable[..., Any]:
    def endpoint(request: Request, response: Response) -> Any:
        return _start(request, response, getattr(rebuilds, kind.name))

    endpoint.__name__, endpoint.__doc__ = f"start_{kind.name}", kind.meaning
    return endpoint


for _kind in TASKS:
    if _kind.role and _kind not in (CITY, REPLAY):
        _post(_kind)(_endpoint(_kind))


@_post(REPLAY, 409)
def start_replay_events(request: Request, response: Response, replay: ReplayRequest | None = None) -> Any:
    """Patch again what the log names from an offset or instant on; `dry_run` only says what would change."""
    arguments = (replay or ReplayRequest()).model_dump(mode="json", exclude_none=True)
    ReplayRange.parse(**arguments)
    return _start(request, response, replay_events, **arguments)


@_post(CITY, 404)
def start_rebuild_city(request: Request, response: Response, city_id: RowId) -> Any:
    """Rebuild what is cached in one city or should be; 404 where neither the catalog nor any cache names it."""
    with database.transaction() as connection:
        if not diff.names_city(connection, city_id):
            raise NotFound(f"there is no city {city_id}")
    return _start(request, response, rebuilds.rebuild_city, city_id=city_id)
