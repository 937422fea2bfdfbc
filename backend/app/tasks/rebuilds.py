"""The documented tasks: three rebuilds, all of them in turn, and clearing. One of a kind at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from backend.app.caches import rebuilds
from backend.app.caches.keys import Cause
from backend.app.caches.patch import CacheType
from backend.app.celery_app import app
from backend.app.ledger import retention
from backend.app.tasks.settle import settle
from backend.app.tasks.task import LedgerTask, Skipped, flight
from backend.app.telemetry import metrics

SUMMED = ("checked", "missing", "extra", "different", "patched", "drift", "delayed")


@app.task(base=LedgerTask, name="update_product_city_cache", bind=True)
def update_product_city_cache(self: LedgerTask) -> dict[str, Any]:
    """Reconcile ProductCityMapping and the 'products' row of ActiveCitiesCache."""
    return rebuild_mapping(self, "products", self.patience)


@app.task(base=LedgerTask, name="update_company_city_cache", bind=True)
def update_company_city_cache(self: LedgerTask) -> dict[str, Any]:
    """Reconcile CompanyCityMapping and the 'companies' row of ActiveCitiesCache."""
    return rebuild_mapping(self, "companies", self.patience)


@app.task(base=LedgerTask, name="update_cities_product_count", bind=True)
def update_cities_product_count(self: LedgerTask) -> dict[str, Any]:
    """Recount goods, services and companies of each city."""
    return rebuild_counts(self.patience)


@app.task(base=LedgerTask, name="refresh_all_caches", bind=True)
def refresh_all_caches(self: LedgerTask) -> dict[str, Any]:
    """Reconcile all caches, one after the other, and delete old history."""
    with flight("all", self.patience):
        result = rebuild_everything(self, self.patience)
        for name, rows in retention.prune("worker").items():
            metrics.PRUNED.labels(name).inc(rows)
        return result


@app.task(base=LedgerTask, name="clear_all_caches", bind=True)
def clear_all_caches(self: LedgerTask) -> dict[str, Any]:
    """Empty the caches."""
    with flight("clear", self.patience):
        return {"removed": rebuilds.empty()}


def rebuild_mapping(task: LedgerTask, what: CacheType, patience: float, finish: bool = True) -> dict[str, Any]:
    """One rebuild of a mapping; raises Skipped while another is under way."""
    with flight(what, patience):
        return asdict(rebuilds.rebuild(what, Cause(task.name, task.task_id), settle, task.report, finish))


def rebuild_counts(patience: float, active: bool = False) -> dict[str, Any]:
    """One recount; raises Skipped while another is under way."""
    with flight("counts", patience):
        return asdict(rebuilds.rebuild_counts(settle, active))


def rebuild_everything(task: LedgerTask, patience: float) -> dict[str, Any]:
    """All rebuilds in turn, counts and active cities last; a part under way elsewhere is named as skipped."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "products": lambda: rebuild_mapping(task, "products", patience, finish=False),
        "companies": lambda: rebuild_mapping(task, "companies", patience, finish=False),
        "counts": lambda: rebuild_counts(patience, active=True),
    }
    results: dict[str, dict[str, Any]] = {}
    for name, rebuild in parts.items():
        task.report({"part": name, "done": list(results)})
        try:
            results[name] = rebuild()
        except Skipped as skipped:
            results[name] = {"skipped": str(skipped)}
    return {column: sum(part.get(column, 0) for part in results.values()) for column in SUMMED} | {"parts": results}


STARTABLE: dict[str, LedgerTask] = {
    task.name: task
    for task in (
        update_product_city_cache,
        update_company_city_cache,
        update_cities_product_count,
        refresh_all_caches,
        clear_all_caches,
    )
}
