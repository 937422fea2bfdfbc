"""Every task, with all that is decided about it; Celery app, beat, API, console and worker read it here.

Knows nothing of Celery. What a task does stands in the function of its name, beside this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from backend.app.access.api_keys import Role
from events.topology import MAINTENANCE, PATCHES

HOUR: Final = 3600


@dataclass(frozen=True)
class TaskKind:
    """One task."""

    name: str
    queue: str
    meaning: str
    flight: str | None = None  # runs of one flight follow each other, see `single_flight`; None: any number at a time
    of: str | None = None  # its argument that names what it is about: each has a flight of its own
    patience: float = 0.0  # seconds to wait for the flight in any case
    role: Role | None = None  # that may start it; None: only events do
    every: int | None = None  # minutes, reckoned from the full hour; None: it has no schedule
    expires: int | None = None  # seconds; a scheduled run that no worker took by then is dropped, so runs never pile up
    limit: int | None = None  # seconds that a run may take, then it ends as FAILURE; None: as long as servers are away


APPLY_EVENTS: Final = TaskKind("apply_catalog_events", PATCHES, "Patch the keys of a batch of events.")
REPLAY: Final = TaskKind(
    "replay_events", MAINTENANCE, "Patch again what the log names from an offset or instant on.",
    flight="replay", role="operate", limit=24 * HOUR,
)  # fmt: skip
CITY: Final = TaskKind(
    "rebuild_city", MAINTENANCE, "Rebuild the rows of one city in all caches.",
    flight="city", of="city_id", role="operate", limit=HOUR,
)  # fmt: skip
TASKS: Final = (
    TaskKind(
        "update_product_city_cache", MAINTENANCE, "Rebuild ProductCityMapping and its ActiveCitiesCache row.",
        flight="products", role="operate", every=30, expires=24 * 60, limit=6 * HOUR,
    ),
    TaskKind(
        "update_company_city_cache", MAINTENANCE, "Rebuild CompanyCityMapping and its ActiveCitiesCache row.",
        flight="companies", role="operate", every=30, expires=24 * 60, limit=6 * HOUR,
    ),
    TaskKind(
        "update_cities_product_count", MAINTENANCE, "Recount goods, services and companies of each city.",
        flight="counts", role="operate", every=15, expires=12 * 60, limit=6 * HOUR,
    ),
    TaskKind(
        "refresh_all_caches", MAINTENANCE, "All three rebuilds, one after the other.",
        flight="all", role="operate", every=60, expires=48 * 60, limit=12 * HOUR,
    ),
    CITY,
    TaskKind("clear_all_caches", MAINTENANCE, "Empty the caches.", flight="clear", role="admin", limit=HOUR),
    REPLAY,
    TaskKind(
        "apply_wide_patches", MAINTENANCE, "Patch what is too wide for a batch.", flight="wide", limit=24 * HOUR,
        patience=2.0,  # between the last look of a run and its end a new request may come
    ),
    APPLY_EVENTS,
)  # fmt: skip
BY_NAME: Final = {kind.name: kind for kind in TASKS}
