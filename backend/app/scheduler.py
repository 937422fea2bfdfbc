"""Beat's scheduler without a file: when each task was due last stands in the ledger.

Any number of beats may run: the ledger takes each due instant once. A beat that was away queues what it missed once.
"""

from __future__ import annotations

import copy
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery.beat import Scheduler
from celery.schedules import crontab

from backend.app import pulse
from backend.app.errors import Away
from backend.app.tasks import ledger

log = logging.getLogger(__name__)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST: Final = timedelta(days=366)  # a crontab that is not due for longer has no instant


class LedgerScheduler(Scheduler):
    """Reads at its start when each entry ran last; everything else is Celery's own."""

    def setup_schedule(self) -> None:
        """Take the configured entries, with the ledger's memory of their last due instants."""
        self.install_default_entries({})
        self.merge_inplace(self.app.conf.beat_schedule)
        try:
            last_due = ledger.last_due()
        except Away as failure:
            log.warning("beat starts without memory of its last runs: %s", failure)
            return
        for entry in self.schedule.values():
            entry.last_run_at = last_due.get(entry.task or "") or entry.last_run_at

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Queue a due entry with its due instant, by which the ledger knows it from another beat's."""
        dated = copy.copy(entry)
        instant = due_instant(entry.schedule, datetime.now(UTC))
        headers = (entry.options or {}).get("headers") or {}
        dated.options = {**(entry.options or {}), "headers": {**headers, "scheduled_for": instant.isoformat()}}
        super().apply_entry(dated, producer)

    def tick(self, *arguments: Any, **options: Any) -> float:
        """As Celery's, with a sign of life."""
        pulse.touch()
        return float(super().tick(*arguments, **options))

    @property
    def info(self) -> str:
        """Shown when beat starts."""
        return "    . schedule -> the ledger, table task_runs"


def due_instant(timing: Any, now: datetime) -> datetime:
    """The last instant up to now at which a Celery schedule was due: the same for every beat, however late it asks."""
    if not isinstance(timing, crontab):
        since: timedelta = (now - EPOCH) // timing.run_every * timing.run_every
        return EPOCH + since
    cron: Any = timing
    instant: datetime = now.astimezone(cron.tz).replace(second=0, microsecond=0)
    while not _matches(cron, instant):
        instant -= timedelta(minutes=1)
        if now - instant > LONGEST:
            return now.replace(second=0, microsecond=0)
    return instant.astimezone(UTC)


def _matches(cron: Any, instant: datetime) -> bool:
    return (
        instant.minute in cron.minute
        and instant.hour in cron.hour
        and instant.isoweekday() % 7 in cron.day_of_week
        and instant.day in cron.day_of_month
        and instant.month in cron.month_of_year
    )
