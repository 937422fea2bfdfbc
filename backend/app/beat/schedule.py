"""The documented schedule, as Celery wants it: what the table of tasks says is due when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from celery.schedules import crontab

from backend.app.tasks.roster import TASKS


@dataclass(frozen=True)
class Entry:
    """One periodic task."""

    name: str
    task: str
    schedule: crontab
    expires: int | None

    def as_celery(self) -> dict[str, Any]:
        """The entry of Celery's beat_schedule."""
        options = {"expires": self.expires, "headers": {"trigger": "beat"}}
        return {"task": self.task, "schedule": self.schedule, "options": options}


def _timing(minutes: int) -> crontab:
    return crontab(minute=f"*/{minutes}" if minutes < 60 else "0")


ENTRIES: Final = tuple(
    Entry(kind.name.replace("_", "-"), kind.name, _timing(kind.every), kind.expires) for kind in TASKS if kind.every
)
