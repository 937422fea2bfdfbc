"""Why a cache holds what it holds: source, cached row, what it should be, and the patches that made it so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app.caches import diff
from backend.app.caches.diff import Noun
from backend.app.database.statement import run_named, value_named
from backend.app.errors import NotFound
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("explain.sql"))
CACHES: Final = {"product": "products", "company": "companies", "city": "counts"}


@dataclass(frozen=True)
class PastPatch:
    """A patch that wrote or removed a cached row, or moved a city's counts."""

    task: str
    task_id: str | None
    subject: str | None  # whose event asked for it: the row itself, its company, or one of the city's rows
    event_id: str | None  # None for a rebuild, and where it is not known which of a batch's events it was
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
    last_patch: PastPatch | None
    patches: Sequence[PastPatch]  # the last ten, newest first
    patches_since: datetime | None  # of the oldest patch that is remembered of any key; older ones were deleted
    pending_events: int  # in the outbox, of this row and of its company


def explain(connection: Connection, noun: Noun, row_id: int) -> Explanation:
    """Explain one cached row; raises NotFound when neither catalog nor cache knows it or has known it."""
    source = value_named(SQL, connection, f"{noun}_source", id=row_id)
    found = diff.rows(connection, CACHES[noun], [row_id])
    cached, wanted = (found[0].before, found[0].after) if found else (None, None)
    subjects = _subjects(noun, row_id, source, cached)
    patches = _patches(connection, noun, row_id, subjects)
    since, was_removed, pending = run_named(SQL, connection, "remembered", noun=noun, id=row_id, subjects=subjects)[0]
    if source is None and cached is None and not patches and not was_removed:
        raise NotFound(f"neither catalog nor cache knows {noun} {row_id}")
    return Explanation(
        subject=subjects[0],
        source=source,
        cached=cached,
        wanted=wanted,
        agrees=cached == wanted,
        last_patch=patches[0] if patches else None,
        patches=patches,
        patches_since=since,
        pending_events=pending,
    )


def _patches(connection: Connection, noun: Noun, row_id: int, subjects: list[str]) -> list[PastPatch]:
    name = "city_patches" if noun == "city" else "patches"
    found = run_named(SQL, connection, name, noun=noun, id=row_id, subject=subjects[0], askers=subjects)
    return [PastPatch(*row) for row in found]


def _subjects(noun: Noun, row_id: int, *rows: dict[str, Any] | None) -> list[str]:
    companies = {row["company_id"] for row in rows if row and noun == "product"}
    return [f"{noun}/{row_id}", *(f"company/{company}" for company in sorted(companies))]
