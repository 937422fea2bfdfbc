"""The documented schedule: what is due when. Beat, health, console and ledger read it here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from celery.schedules import crontab


@dataclass(frozen=True)
class Entry:
    """One periodic task; a run that no worker took within `expires` seconds is dropped, so runs never pile up."""

    name: str
    task: str
    schedule: crontab
    expires: int

    def as_celery(self) -> dict[str, Any]:
        """The entry of Celery's beat_schedule."""
        options = {"expires": self.expires, "headers": {"trigger": "beat"}}
        return {"task": self.task, "schedule": self.schedule, "options": options}


EVERY_15_MINUTES: Final = crontab(minute="*/15")
EVERY_30_MINUTES: Final = crontab(minute="*/30")
EVERY_60_MINUTES: Final = crontab(minute="0")
ENTRIES: Final = (
    Entry("update-product-city-cache", "update_product_city_cache", EVERY_30_MINUTES, expires=24 * 60),
    Entry("update-company-city-cache", "update_company_city_cache", EVERY_30_MINUTES, expires=24 * 60),
    Entry("update-cities-product-count", "update_cities_product_count", EVERY_15_MINUTES, expires=12 * 60),
    Entry("refresh-all-caches", "refresh_all_caches", EVERY_60_MINUTES, expires=48 * 60),
)
