"""The pipeline's numbers for Prometheus that only the database knows; each by the name of its Reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from backend.app import db
from backend.app.dead_letters.letters import KINDS as LETTERS
from backend.app.health import incidents
from backend.app.health.kinds import KINDS
from backend.app.ledger import ledger
from backend.app.observing import nines
from backend.app.telemetry import latency
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("readings.sql"))
QUANTILES: Final = (0.5, 0.99)
Number = tuple[str, tuple[str, ...], float]  # name of the reading, label values, value


def readings() -> list[Number]:
    """All of them; what has no value yet is left out. Raises DatabaseAway."""
    with db.transaction() as connection:
        found = {name: connection.exec_driver_sql(sql).fetchall() for name, sql in SQL.items()}
    return [*_waiting(found), *_observed(found), *_nines(), *_incidents()]


def _waiting(found: dict[str, Any]) -> Iterator[Number]:
    waiting, oldest = found["wide_patches"][0]
    yield "wide_patches", (), waiting
    yield "wide_patches_oldest_seconds", (), oldest
    letters = dict.fromkeys(LETTERS, 0) | dict(map(tuple, found["dead_letters"]))
    for kind, number in letters.items():
        yield "dead_letters_open", (kind,), number
    for task, age in found["scheduled"]:
        yield "scheduled_run_age_seconds", (task,), age
    for task, number in ledger.failing_schedules().items():
        yield "scheduled_runs_failed", (task,), number
    for table, age in found["histories"]:
        if age is not None:
            yield "history_seconds", (table,), age


def _observed(found: dict[str, Any]) -> Iterator[Number]:
    yield "audit_findings", (), found["findings"][0][0]
    for milliseconds, age in found["canary"]:
        yield "canary_seconds", (), milliseconds / 1000
        yield "canary_age_seconds", (), age
    histograms, age = found["observed"][0]
    if age is not None:
        yield "observation_age_seconds", (), age
    counts = latency.total(histograms)
    for quantile in QUANTILES:
        if (milliseconds := latency.percentile(counts, quantile)) is not None:
            yield "freshness_seconds", (str(quantile),), milliseconds / 1000


def _nines() -> Iterator[Number]:
    levels = nines.levels()
    for cache, windows in {**levels["caches"], "all": levels["all"]}.items():
        for window, level in windows.items():
            yield "consistency_nines", (cache, window), level["nines"]


def _incidents() -> Iterator[Number]:
    found = {one.kind for one in incidents.open_now()}
    for kind in KINDS:
        yield "incident_open", (kind,), float(kind in found)
