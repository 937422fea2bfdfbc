"""The Celery app with its schedule a thousand times faster: `celery -A tests.acceptance.fast_schedule beat`."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from celery.schedules import schedule

from backend.app.celery_app import app

EVERY: Final = 2.0  # seconds between two due instants of each task
EXPIRES: Final = 1.5  # seconds until a run that no worker took is dropped

app.conf.beat_schedule = {
    name: {
        **entry,
        "schedule": schedule(timedelta(seconds=EVERY)),
        "options": {**entry["options"], "expires": EXPIRES},
    }
    for name, entry in app.conf.beat_schedule.items()
}
app.conf.beat_max_loop_interval = 0.2
