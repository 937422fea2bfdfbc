"""The pipeline's history: every few seconds a row, plots and percentiles are read off it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from backend.app import db
from backend.app.database.statement import as_array
from backend.app.errors import BrokerAway
from backend.app.health import inspector
from backend.app.telemetry import latency
from events.outbox import SQL as OUTBOX
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("observing.sql"))
EVERY_SECONDS: Final = 5.0


@dataclass
class History:
    """Remembers where the last observation ended."""

    _at: float = field(default_factory=time.monotonic)
    _since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _last_id: int | None = None
    _last_rows: int = 0
    waiting: inspector.Waiting | None = None  # at the last observation; None: the broker did not answer

    def observe(self, canary_ms: float | None) -> dict[str, Any]:
        """Write one row. Raises DatabaseAway."""
        self.waiting = waiting = _waiting()
        with db.transaction() as connection:
            rows, seconds = connection.exec_driver_sql(OUTBOX["lag"]).one()
            last_id = int(connection.exec_driver_sql(OUTBOX["last_id"]).scalar_one())
            events, patched, histograms, until = connection.exec_driver_sql(
                SQL["applied"], {"since": self._since}
            ).one()
            captured = max(0, last_id - (last_id if self._last_id is None else self._last_id))
            now = time.monotonic()
            row = {
                "seconds": now - self._at,
                "captured": captured,
                "published": max(0, captured - (rows - self._last_rows)),
                "applied": events,
                "patched": patched,
                "outbox_rows": rows,
                "outbox_seconds": seconds,
                "queue_ready": waiting.ready if waiting else None,
                "queue_held": waiting.held if waiting else None,
                "latency": latency.total(histograms),
                "canary_ms": canary_ms,
            }
            connection.exec_driver_sql(SQL["insert_observation"], row | {"latency": as_array(row["latency"])})
        self._at, self._since, self._last_id, self._last_rows = now, until, last_id, rows
        return row


def _waiting() -> inspector.Waiting | None:
    try:
        return inspector.waiting()
    except BrokerAway:
        return None


def last() -> dict[str, Any] | None:
    """The newest observation, with its age in seconds. Raises DatabaseAway."""
    with db.transaction() as connection:
        row = connection.exec_driver_sql(SQL["last_observation"]).mappings().one_or_none()
        return dict(row) if row else None
