"""The Celery app with its schedule a thousand times faster: `celery -A tests.acceptance.fast_schedule beat`."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Final

from celery.schedules import schedule

from backend.app.celery_app import app

EVERY: Final = float(os.environ.get("FAST_EVERY", "2"))  # seconds between two due instants of each task
EXPIRES: Final = 0.75 * EVERY  # seconds until a run that no worker took is dropped

app.conf.beat_schedule = {
    name: {
        **entry,
        "schedule": schedule(timedelta(seconds=EVERY)),
        "options": {**entry["options"], "expires": EXPIRES},
    }
    for name, entry in app.conf.beat_schedule.items()
}
app.conf.beat_max_loop_interval = 0.2
