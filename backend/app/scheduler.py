"""Beat's scheduler without a file: when each task was due last stands in the ledger.

Any number of beats may run: the ledger takes each due instant once. A beat that was away queues what it missed once.
"""

from __future__ import annotations

import logging
from typing import Any

from celery.beat import Scheduler

from backend.app import pulse
from backend.app.errors import DatabaseAway
from backend.app.tasks import ledger

log = logging.getLogger(__name__)


class LedgerScheduler(Scheduler):
    """Reads at its start when each entry ran last; everything else is Celery's own."""

    def setup_schedule(self) -> None:
        """Take the configured entries, with the ledger's memory of their last due instants."""
        self.install_default_entries({})
        self.merge_inplace(self.app.conf.beat_schedule)
        try:
            last_due = ledger.last_due()
        except DatabaseAway as failure:
            log.warning("beat starts without memory of its last runs: %s", failure)
            return
        for entry in self.schedule.values():
            entry.last_run_at = last_due.get(entry.task or "") or entry.last_run_at

    def tick(self, *arguments: Any, **options: Any) -> float:
        """As Celery's, with a sign of life."""
        pulse.touch()
        return float(super().tick(*arguments, **options))

    @property
    def info(self) -> str:
        """Shown when beat starts."""
        return "    . schedule -> the ledger, table task_runs"
