"""How long each table of history is kept. Old rows are deleted in small transactions, with pauses, until none is left.

Writers wait for none of it: a transaction takes milliseconds, and after each one the database has as long for others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from backend.app import db
from backend.app.settings import Settings, settings
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
ROWS: Final = 5_000  # of one transaction
MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
REPLAY_DAYS: Final = 7.0  # one that nobody has gone on with for so long is over
OBSERVED_DAYS: Final = 8.0  # a week, and what a plot of it begins with

Keeper = Literal["worker", "observer"]


@dataclass(frozen=True)
class Kept:
    """One kind of rows."""

    name: str  # of its statement in retention.sql
    keeper: Keeper  # the process that may delete them
    seconds: Callable[[Settings], float]  # how long they are kept


KEPT: Final = (
    Kept("event_runs", "worker", lambda chosen: chosen.event_run_history_hours * HOUR),
    Kept("runs", "worker", lambda chosen: chosen.run_history_days * DAY),
    Kept("patches", "worker", lambda chosen: chosen.patch_history_days * DAY),
    Kept("removed_keys", "worker", lambda chosen: chosen.patch_history_days * DAY),  # behind their patches
    Kept("judgements", "worker", lambda chosen: HOUR),  # that nobody has ended
    Kept("looks", "worker", lambda chosen: HOUR),
    Kept("city_changes", "worker", lambda chosen: 5 * MINUTE),  # for whoever keeps answers
    Kept("replays", "worker", lambda chosen: REPLAY_DAYS * DAY),
    Kept("dead_letters", "worker", lambda chosen: chosen.run_history_days * DAY),  # once they are closed
    Kept("audit_log", "worker", lambda chosen: chosen.audit_log_days * DAY),
    Kept("watched_changes", "worker", lambda chosen: max(REPLAY_DAYS, chosen.event_log_days) * DAY),
    Kept("event_log", "worker", lambda chosen: chosen.event_log_days * DAY),  # by whole days
    Kept("observations", "observer", lambda chosen: OBSERVED_DAYS * DAY),
    Kept("audit_minutes", "observer", lambda chosen: OBSERVED_DAYS * DAY),
    Kept("audit_findings", "observer", lambda chosen: OBSERVED_DAYS * DAY),
    Kept("passed_tables", "observer", lambda chosen: OBSERVED_DAYS * DAY),
    Kept("count_looks", "observer", lambda chosen: OBSERVED_DAYS * DAY),
    Kept("city_hours", "observer", lambda chosen: OBSERVED_DAYS * DAY),  # but what a plot of a week begins with
    Kept("incidents", "observer", lambda chosen: chosen.audit_log_days * DAY),
)


def prune(keeper: Keeper, rows: int = ROWS) -> dict[str, int]:
    """Delete all that is too old of what this process keeps; rows by kind. Raises DatabaseAway."""
    return {kept.name: _prune(kept, rows) for kept in KEPT if kept.keeper == keeper}


def _prune(kept: Kept, rows: int) -> int:
    parameters = {"seconds": kept.seconds(settings()), "rows": rows}
    deleted, found = 0, rows
    while found == rows:
        began = time.monotonic()
        with db.transaction() as connection:
            found = connection.exec_driver_sql(SQL[kept.name], parameters).rowcount
        deleted += found
        if found == rows:
            time.sleep(time.monotonic() - began)  # as long for others
    return deleted
