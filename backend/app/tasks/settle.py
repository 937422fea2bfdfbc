"""Tell drift from delay: wait until what was committed before an instant has been applied.

Events move one way: a row leaves the outbox when the broker has it, a message leaves the queue to a worker, and a
worker lets go of it when its patch is committed. So the pipeline has passed an instant when nothing older is in the
outbox or in a worker's hands, and the queue is empty. Its messages are in no order of time: what waits behind newer
ones may be older, as may what a large statement leaves behind.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final

from backend.app import db
from backend.app.errors import BrokerAway
from backend.app.health import inspector
from backend.app.settings import settings
from events import times

POLL_SECONDS: Final = 0.05
OUTBOX: Final = (
    "SELECT EXISTS (SELECT FROM event_outbox WHERE occurred_at <= %(instant)s OR occurred_at > clock_timestamp())"
)


def settle(instant: datetime) -> bool:
    """Wait for the pipeline to pass the instant; False when it did not, or nobody could say so, within
    DRIFT_GRACE_SECONDS. May raise DatabaseAway."""
    deadline = time.monotonic() + settings().drift_grace_seconds
    while not _is_known_to_have_passed(instant):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _is_known_to_have_passed(instant: datetime) -> bool:
    """A rebuild needs no broker: without one it mends what differs, and cannot tell drift from delay."""
    try:
        return passed(instant)
    except BrokerAway:
        return False


def passed(instant: datetime) -> bool:
    """Whether all that was committed before the instant has been applied. May raise Away."""
    if _in_outbox(instant):
        return False
    waiting = inspector.waiting(connected=_connected_workers)
    if not waiting.is_known:
        return False
    if waiting.held and (waiting.oldest_held is None or _is_before(waiting.oldest_held, instant)):
        return False
    return waiting.ready == 0


def _in_outbox(instant: datetime) -> bool:
    """A time ahead of the clock is of before the clock was set back: such a row may be older than the instant."""
    with db.transaction() as connection:
        return bool(connection.exec_driver_sql(OUTBOX, {"instant": instant}).scalar_one())


def _connected_workers() -> int:
    with db.transaction() as connection:
        return int(connection.exec_driver_sql(inspector.CONNECTED_WORKERS).scalar_one())


def _is_before(event_time: str, instant: datetime) -> bool:
    at = times.seconds(event_time)
    return at is None or at <= instant.timestamp()  # another publisher's idea of a time: take it for an old event
