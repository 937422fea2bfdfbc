"""Probes: alive, ready, and the numbers for Prometheus."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from backend.app import advance, broker, db
from backend.app.api import database, metrics
from backend.app.api.probe import Shared, ask_all
from backend.app.errors import DatabaseAway
from backend.app.settings import settings
from events.topology import UPDATER

router = APIRouter(tags=["health"])
_watch: Final = advance.Watch()


class Live(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether everything that requests need is there; a sentence for each part that is not."""

    status: Literal["ok", "unavailable"]
    database: str
    broker: str
    events: str


@router.get("/health/live", response_model=Live)
async def live() -> Any:
    """Whether the process runs; asks nobody."""
    return {"status": "ok"}


@router.get("/health/ready", response_model=Ready, responses={503: {"model": Ready}})
async def ready(response: Response) -> Any:
    """Database reachable and migrated, broker reachable, events on their way into the caches."""
    answers = await _parts()
    parts = {name: answer.failure or str(answer.value) for name, answer in answers.items()}
    well = not any(answer.failure for answer in answers.values())
    if not well:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return {"status": "ok" if well else "unavailable", **parts}


@router.get("/metrics", include_in_schema=False)
async def prometheus(request: Request) -> Response:
    """Numbers of this process and of the pipeline in Prometheus' text format."""
    return Response(*await metrics.exposition())


def _database() -> str:
    with database.transaction() as connection:
        table = connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar()
        version = table and connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if version != _newest():
        raise DatabaseAway(f"the schema is at version {version}, not {_newest()}: run 'citycache migrate'")
    return "ok"


def _broker() -> str:
    if settings().in_process:
        return "ok (in-process)"
    broker.depths(UPDATER.name)
    return "ok"


def _events() -> str:
    def query(sql: str) -> Any:
        with database.transaction() as connection:
            return connection.exec_driver_sql(sql).scalar()

    _watch.look(query)
    return "ok"


async def _ask_parts() -> dict[str, Any]:
    return await ask_all(database=_database, broker=_broker, events=_events)


_parts: Final = Shared(_ask_parts)


@cache
def _newest() -> str | None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    place = Path(db.__file__).parents[1] / "alembic.ini"
    return ScriptDirectory.from_config(Config(str(place))).get_current_head()
