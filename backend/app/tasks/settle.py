"""Tell drift from delay: wait until what was committed before an instant has been applied.

Rows leave the outbox only when the broker has them, messages leave the queue's head only to a worker, and a worker
applies what it took within a moment. So: no outbox row older than the instant, then an empty queue, then a moment.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final

from backend.app import broker, db
from backend.app.settings import settings
from events import topology

IN_FLIGHT_SECONDS: Final = 0.5  # a patch takes milliseconds
POLL_SECONDS: Final = 0.05


def settle(instant: datetime) -> bool:
    """Wait for the pipeline to pass the instant; False when it did not within DRIFT_GRACE_SECONDS. May raise Away."""
    deadline = time.monotonic() + settings().drift_grace_seconds
    while _in_outbox(instant) or _in_queue():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    if not settings().in_process:
        time.sleep(IN_FLIGHT_SECONDS)
    return True


def _in_outbox(instant: datetime) -> bool:
    with db.transaction() as connection:
        sql = "SELECT EXISTS (SELECT FROM event_outbox WHERE occurred_at <= %(instant)s)"
        return bool(connection.exec_driver_sql(sql, {"instant": instant}).scalar_one())


def _in_queue() -> bool:
    return any(broker.depths(topology.UPDATER.name).values())
