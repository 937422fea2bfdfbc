"""The worker's Celery app with a fault that a test calls for: `celery -A tests.hostile.faulty_worker worker`."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from celery import bootsteps

from backend.app.celery_app import app


class Fault(bootsteps.StartStopStep):
    """Does in the worker's loop what the file FAULT_FILE says, when it is there."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, worker: Any) -> None:
        """Look for it from now on."""
        worker.timer.call_repeatedly(0.1, self._look)

    def _look(self) -> None:
        file = Path(os.environ["FAULT_FILE"])
        if not file.exists():
            return
        if file.read_text() == "wedge":
            threading.Event().wait()
        raise AssertionError("a fault in the loop")  # which the hub does not catch


app.steps["consumer"].add(Fault)
