"""The documented schedule: when each entry was due last, by the ledger, and when it is due next."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from backend.app.beat.schedule import ENTRIES, Entry
from backend.app.ledger import ledger

GRACE: Final = timedelta(seconds=90)  # beat wakes every few seconds, and may start anew meanwhile


def schedule() -> list[dict[str, Any]]:
    """One row for each entry, in the order of its next run. Raises DatabaseAway."""
    last_due = ledger.last_due()
    rows = [_row(entry, last_due.get(entry.task)) for entry in ENTRIES]
    return sorted(rows, key=lambda row: (row["next"], row["name"]))


def _row(entry: Entry, last: datetime | None) -> dict[str, Any]:
    crontab = entry.schedule
    now = datetime.now(UTC)
    following = now + crontab.remaining_estimate(now) + timedelta(seconds=0.5)
    return {
        "name": entry.name,
        "task": entry.task,
        "crontab": _expression(crontab),
        "last": last and last.isoformat(),
        "next": following.replace(microsecond=0).isoformat(),
        "missed": last is not None and crontab.remaining_estimate(last) < -GRACE,
    }


def _expression(crontab: Any) -> str:
    """The five fields, out of Celery's '<crontab: */30 * * * * (m/h/dM/MY/d)>'."""
    found = re.search(r"crontab: ([^(>]+)", str(crontab))
    return found.group(1).strip() if found else str(crontab)
