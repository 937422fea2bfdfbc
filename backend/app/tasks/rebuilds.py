"""The documented tasks: three rebuilds, all of them in turn, and clearing. One of a kind at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from msgspec import Meta

from backend.app.caches import rebuilds
from backend.app.caches.keys import Cause
from backend.app.caches.patch import CacheType
from backend.app.celery_app import ledgered
from backend.app.ledger import retention
from backend.app.tasks.settle import settle
from backend.app.tasks.single_flight import Skipped, flight
from backend.app.tasks.task import LedgerTask
from backend.app.telemetry import metrics
from events.contract import LARGEST_BIGINT, LEAST_BIGINT

CityId = Annotated[int, Meta(ge=LEAST_BIGINT, le=LARGEST_BIGINT)]
SUMMED = ("checked", "missing", "extra", "different", "patched", "drift", "delayed")


@ledgered
def update_product_city_cache(self: LedgerTask) -> dict[str, Any]:
    """Reconcile ProductCityMapping and the 'products' row of ActiveCitiesCache."""
    return rebuild_mapping(self, "products")


@ledgered
def update_company_city_cache(self: LedgerTask) -> dict[str, Any]:
    """Reconcile CompanyCityMapping and the 'companies' row of ActiveCitiesCache."""
    return rebuild_mapping(self, "companies")


@ledgered
def update_cities_product_count(self: LedgerTask) -> dict[str, Any]:
    """Recount goods, services and companies of each city."""
    return rebuild_counts()


@ledgered
def refresh_all_caches(self: LedgerTask) -> dict[str, Any]:
    """Reconcile all caches, one after the other, and delete old history."""
    result = rebuild_everything(self, self.patience)
    for name, rows in retention.prune("worker").items():
        metrics.PRUNED.labels(name).inc(rows)
    return result


@ledgered
def rebuild_city(self: LedgerTask, city_id: CityId) -> dict[str, Any]:
    """Reconcile what is cached in one city or should be, its counts, and active cities."""
    products, companies, counts = rebuilds.rebuild_city(city_id, Cause(self.name, self.task_id), settle, self.report)
    parts = {"products": _told(products), "companies": _told(companies), "counts": asdict(counts)}
    return {"city_id": city_id, **_together(parts)}


@ledgered
def clear_all_caches(self: LedgerTask) -> dict[str, Any]:
    """Empty the caches."""
    return {"removed": rebuilds.empty()}


def rebuild_mapping(task: LedgerTask, what: CacheType, finish: bool = True) -> dict[str, Any]:
    """One rebuild of a mapping, by whoever has its flight."""
    return _told(rebuilds.rebuild(what, Cause(task.name, task.task_id), settle, task.report, finish))


def rebuild_counts(active: bool = False) -> dict[str, Any]:
    """One recount, by whoever has its flight."""
    return asdict(rebuilds.rebuild_counts(settle, active))


def rebuild_everything(task: LedgerTask, patience: float) -> dict[str, Any]:
    """All rebuilds in turn, counts and active cities last; a part under way elsewhere is named as skipped."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "products": lambda: rebuild_mapping(task, "products", finish=False),
        "companies": lambda: rebuild_mapping(task, "companies", finish=False),
        "counts": lambda: rebuild_counts(active=True),
    }
    results: dict[str, dict[str, Any]] = {}
    for name, rebuild in parts.items():
        task.report({"part": name, "done": list(results)})
        try:
            with flight(name, patience):
                results[name] = rebuild()
        except Skipped as skipped:
            results[name] = {"skipped": str(skipped)}
    return _together(results)


def _told(done: rebuilds.Rebuilt) -> dict[str, Any]:
    """What the run's result says: all but the cities whose counts it moved, which may be many."""
    return {name: value for name, value in asdict(done).items() if name != "moved"}


def _together(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Sums of what each part found and did, beside the parts."""
    return {column: sum(part.get(column, 0) for part in parts.values()) for column in SUMMED} | {"parts": parts}
