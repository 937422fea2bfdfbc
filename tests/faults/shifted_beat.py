"""The fast schedule by a wall clock that is wrong by as many seconds as the file CLOCK_FILE says at the moment.

`celery -A tests.faults.shifted_beat beat`. The monotonic clock is right. libfaketime cannot do that to a process that
sleeps by its monotonic clock, as Python does.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final

from celery.app import base

from backend.app.beat import scheduler
from tests.acceptance.fast_schedule import app

__all__ = ["app"]
FILE: Final = Path(os.environ["CLOCK_FILE"])
right_time = time.time


def offset() -> float:
    """By how much the clock is wrong."""
    return float(FILE.read_text() or 0)


class Shifted(datetime):
    """Says what the wrong clock says."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """The wrong time."""
        return datetime.now(tz) + timedelta(seconds=offset())


time.time = lambda: right_time() + offset()
base.datetime = scheduler.datetime = Shifted  # type: ignore[attr-defined, misc]
