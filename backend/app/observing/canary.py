"""A synthetic change that goes the real way: a row of our own is written, and its cached copy must follow.

The canary has tables of its own, `canaries` and `canary_cache`. Its event takes the way of all events, from a trigger
through outbox, relay, queue and worker to the patch, under a routing key outside of `catalog.#`: nobody else hears it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from backend.app import db
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("observing.sql"))
PATIENCE_SECONDS: Final = 10.0  # a way that takes longer counts as not arrived
POLL_SECONDS: Final = 0.004


def fly(patience: float = PATIENCE_SECONDS) -> float | None:
    """Send one canary; milliseconds from commit to cache, None if it did not arrive in time. Raises DatabaseAway."""
    with db.transaction() as connection:
        number = connection.exec_driver_sql(SQL["send_canary"]).scalar_one()
    began = time.monotonic()
    while time.monotonic() - began < patience:
        with db.transaction() as connection:
            if connection.exec_driver_sql(SQL["canary_arrived"], {"number": number}).scalar_one():
                return (time.monotonic() - began) * 1000
        time.sleep(POLL_SECONDS)
    return None
