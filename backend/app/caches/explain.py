"""Why a cache holds what it holds: source, cached row, what it should be, and the patch that made it so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection

from backend.app.caches import diff
from backend.app.errors import NotFound
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("explain.sql"))
CACHES: Final = {"product": "products", "company": "companies", "city": "counts"}
Noun = Literal["product", "company", "city"]


@dataclass(frozen=True)
class LastPatch:
    """The patch that wrote or removed a cached row last."""

    task: str
    task_id: str | None
    event_id: str | None  # of the event that asked for it; None for a rebuild
    time: datetime
    traceparent: str | None


@dataclass(frozen=True)
class Explanation:
    """One key of a cache."""

    subject: str  # 'product/123'
    source: dict[str, Any] | None  # the catalog's row
    cached: dict[str, Any] | None  # the cache's row
    wanted: dict[str, Any] | None  # what it should be
    agrees: bool
    last_patch: LastPatch | None  # cities: their counts are moved by many
    pending_events: int  # in the outbox, of this row and of its company


def explain(connection: Connection, noun: Noun, row_id: int) -> Explanation:
    """Explain one cached row; raises NotFound when neither catalog nor cache knows it or has known it."""
    source = _value(connection, f"{noun}_source", id=row_id)
    found = diff.rows(connection, CACHES[noun], [row_id])
    cached, wanted = (found[0].before, found[0].after) if found else (None, None)
    patch = _last_patch(connection, noun, row_id)
    if source is None and cached is None and patch is None and not _was_removed(connection, noun, row_id):
        raise NotFound(f"neither catalog nor cache knows {noun} {row_id}")
    subjects = _subjects(noun, row_id, source, cached)
    pending = _value(connection, "pending", subjects=subjects)
    return Explanation(f"{noun}/{row_id}", source, cached, wanted, cached == wanted, patch, pending)


def _last_patch(connection: Connection, noun: Noun, row_id: int) -> LastPatch | None:
    if noun == "city":
        return None
    row = connection.exec_driver_sql(SQL[f"{noun}_patch"], {"id": row_id}).first()
    if row is None:
        return None
    task, task_id, time, traceparents, event_id = row
    lone = traceparents[0] if traceparents and len(traceparents) == 1 else None
    return LastPatch(task, task_id, event_id, time, lone)


def _was_removed(connection: Connection, noun: Noun, row_id: int) -> bool:
    return bool(_value(connection, "was_removed", noun=noun, id=row_id))


def _subjects(noun: Noun, row_id: int, *rows: dict[str, Any] | None) -> list[str]:
    companies = {row["company_id"] for row in rows if row and noun == "product"}
    return [f"{noun}/{row_id}", *(f"company/{company}" for company in sorted(companies))]


def _value(connection: Connection, name: str, **parameters: Any) -> Any:
    return connection.exec_driver_sql(SQL[name], parameters).scalar()
