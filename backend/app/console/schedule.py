"""The documented schedule: when each entry was due last, by the ledger, and when it is due next."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from backend.app.ledger import ledger

GRACE: Final = timedelta(seconds=90)  # beat wakes every few seconds, and may start anew meanwhile


def schedule() -> list[dict[str, Any]]:
    """One row for each entry, in the order of its next run. Raises DatabaseAway."""
    from backend.app.celery_app import beat_schedule

    last_due = ledger.last_due()
    rows = [_row(name, entry, last_due.get(entry["task"])) for name, entry in beat_schedule.items()]
    return sorted(rows, key=lambda row: (row["next"], row["name"]))


def _row(name: str, entry: dict[str, Any], last: datetime | None) -> dict[str, Any]:
    crontab = entry["schedule"]
    now = datetime.now(UTC)
    following = now + crontab.remaining_estimate(now) + timedelta(seconds=0.5)
    return {
        "name": name,
        "task": entry["task"],
        "crontab": _expression(crontab),
        "last": last and last.isoformat(),
        "next": following.replace(microsecond=0).isoformat(),
        "missed": last is not None and crontab.remaining_estimate(last) < -GRACE,
    }


def _expression(crontab: Any) -> str:
    """The five fields, out of Celery's '<crontab: */30 * * * * (m/h/dM/MY/d)>'."""
    found = re.search(r"crontab: ([^(>]+)", str(crontab))
    return found.group(1).strip() if found else str(crontab)
