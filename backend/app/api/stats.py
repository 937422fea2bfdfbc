"""How the whole pipeline is: workers, queues, runs, lag. What cannot be asked is marked, the rest is answered."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from backend.app.api import database
from backend.app.api.probe import Remembered, ask_all
from backend.app.celery_app import app
from backend.app.errors import Away
from backend.app.health import inspector
from backend.app.health import lag as pipeline
from backend.app.ledger import ledger
from events.outbox import SQL as OUTBOX_SQL

router = APIRouter(prefix="/celery", tags=["tasks"])
WORKER_SECONDS: Final = 0.7  # how long workers have to answer: a broadcast has no end
REMEMBER_SECONDS: Final = 2.0


class LagOut(BaseModel):
    """What is committed and not yet applied; null is what could not be asked."""

    outbox_rows: int | None
    oldest_event_seconds: float | None
    queue_messages: int | None


class Stats(BaseModel):
    """The pipeline at a glance; null is what could not be asked, `unavailable` says why."""

    workers: list[str] | None = Field(description="Names of the Celery workers that answer.")
    queues: dict[str, int | None] | None = Field(description="Messages waiting in each queue.")
    tasks: dict[str, dict[str, int]] | None = Field(description="Runs of the last day, by task and state.")
    lag: LagOut
    unavailable: dict[str, str]


def workers() -> list[str]:
    """Names of the workers that answer a broadcast."""
    return sorted(app.control.inspect(timeout=WORKER_SECONDS).ping() or {})


def lag() -> pipeline.Lag:
    """How far the caches lag behind the catalog."""
    return pipeline.lag(_query)


def outbox() -> pipeline.Lag:
    """The part of the lag that the database knows by itself."""
    rows, seconds = _query(OUTBOX_SQL["lag"]) or (None, None)
    return pipeline.Lag(rows, None, seconds)


def _query(sql: str) -> Any:
    try:
        with database.transaction() as connection:
            return connection.exec_driver_sql(sql).one()
    except Away:
        return None


def counts() -> dict[str, dict[str, int]]:
    """Runs of the last day by task and state."""
    database.prepare()
    return ledger.counts()


_workers: Final = Remembered(workers, REMEMBER_SECONDS)


@router.get("/stats", response_model=Stats)
async def get_stats() -> Any:
    """Workers, queues with their depths, counts per task, lag; always 200, and within 2 s."""
    answers: dict[str, Any] = await ask_all(
        workers=_workers, queues=inspector.depths, tasks=counts, lag=lag, outbox=outbox
    )
    partly = answers.pop("outbox").value or pipeline.Lag(None, None, None)
    return {
        "workers": answers["workers"].value,
        "queues": answers["queues"].value,
        "tasks": answers["tasks"].value,
        "lag": (answers["lag"].value or partly).as_dict(),
        "unavailable": {name: answer.failure for name, answer in answers.items() if answer.failure},
    }
