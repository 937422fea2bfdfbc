"""DELETE of a catalog row: at once, or as a run where more hangs on it than a request can wait for."""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import Table

from backend.app.api import database
from backend.app.api.fresh.asking import tell
from backend.app.caches.diff import Noun
from backend.app.catalog import removal, rows


class Deleting(BaseModel):
    """A large deletion that goes on; it is one transaction, so until it ends nothing of it can be seen."""

    task_id: UUID
    task: str
    state: Literal["STARTED"]
    status_url: str


LARGE: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": Deleting, "description": "More hangs on it than a request can wait for: it goes on as a run."}
}


def remove(table: Table, noun: Noun, row_id: int, trace: str | None) -> Response:
    """Delete a row and answer: 204, or 202 with the run. Raises NotFound."""
    response = _remove(table, row_id, trace)
    tell(response, noun, row_id)
    return response


def _remove(table: Table, row_id: int, trace: str | None) -> Response:
    with database.transaction(trace) as connection:
        if not removal.is_large(connection, table, row_id):
            rows.remove(connection, table, row_id)
            return Response(status_code=204)
        running = removal.start(connection, table, row_id, trace)
    if running is None:
        return Response(status_code=204)
    status_url = f"/api/v1/celery/tasks/{running}"
    body = {"task_id": running, "task": removal.task_of(table), "state": "STARTED", "status_url": status_url}
    return JSONResponse(body, status_code=202, headers={"Location": status_url})
