"""The Celery app with a task that is due every second: `celery -A tests.faults.hasty beat`."""

from __future__ import annotations

from datetime import timedelta

from backend.app.celery_app import app

app.conf.beat_schedule = {
    "often": {
        "task": "update_cities_product_count",
        "schedule": timedelta(seconds=1),
        "options": {"expires": 600, "headers": {"trigger": "beat"}},
    }
}
