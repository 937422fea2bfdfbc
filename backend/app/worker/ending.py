"""A worker that cannot go on ends: Celery would wait for its pool, and that for a loop that runs no more."""

from __future__ import annotations

from typing import Any, Final

from celery import bootsteps

from backend.app.worker import stopping

LAST_SECONDS: Final = 5.0  # for tasks under way; nobody can acknowledge them any more


class EndsInTime(bootsteps.StartStopStep):
    """Ends the process soon after an unrecoverable error, however its parts take it; its children end with it."""

    def close(self, worker: Any) -> None:
        """Called before anything of the worker is stopped."""
        if worker.exitcode:
            stopping.end_within(LAST_SECONDS, int(worker.exitcode))
