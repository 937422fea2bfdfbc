"""What the database says about the way of an event, once a second while somebody looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backend.app import db
from backend.app.telemetry import latency
from events.outbox import LEADER_LOCK
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
WINDOW_SECONDS: Final = 5.0  # over which applied events are counted


@dataclass(frozen=True)
class Stored:
    """What is in the outbox, and what patches and canaries have done lately."""

    last_id: int  # of the outbox's sequence
    first_waiting: int  # id of the oldest event in the outbox, or the next one
    outbox_rows: int
    outbox_seconds: float | None  # age of the oldest event in the outbox; None when it is empty
    relay_leads: bool
    wide_companies: int  # wide patches that are not done
    wide_seconds: float | None
    applied: int  # events of the last WINDOW_SECONDS
    changed: int  # mapping rows that those changed
    changed_seconds: float | None  # since a patch changed a mapping
    canary_ms: float | None  # of the last canary that arrived
    canary_seconds: float | None  # since then
    p50_ms: float | None = None  # of the last minute
    p99_ms: float | None = None
    events: int = 0  # of the last minute


def stored() -> Stored:
    """Ask the database. Raises DatabaseAway."""
    parameters = {"window": WINDOW_SECONDS, "leader_lock": LEADER_LOCK}
    with db.transaction() as connection:
        row = dict(connection.exec_driver_sql(SQL["stored"], parameters).mappings().one())
        counts = latency.total(found[0] for found in connection.exec_driver_sql(SQL["latency"]))
    p50_ms, p99_ms = (latency.percentile(counts, share) for share in (0.5, 0.99))
    return Stored(**row, p50_ms=p50_ms, p99_ms=p99_ms, events=sum(counts))
