"""Everything that the console shows besides the map, assembled from the readings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from backend.app import db, observing
from backend.app.catalog import definition
from backend.app.catalog.feed import recorded
from backend.app.console.schedule import schedule
from backend.app.console.stations import Look, Station, culprit, way
from backend.app.console.verdict import Judged
from backend.app.health import incidents
from backend.app.health.judge import CANARY_GRACE_SECONDS
from backend.app.ledger import ledger
from backend.app.observing import nines
from backend.app.settings import settings
from backend.app.tasks.roster import TASKS
from backend.app.telemetry import latency
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
OBSERVING: Final = statements(Path(observing.__file__).with_name("observing.sql"))
LISTED: Final = 20  # runs and findings
SECTIONS: Final = ("runs", "consistency", "schedule", "dead_letters", "findings", "findings_total", "incidents")
SHOWN: Final = [*(kind.name for kind in TASKS if kind.flight), recorded.TASK]  # all but batches of events
POINTS: Final = 240  # of a plot
SPANNED: Final = 200  # incidents, and runs, beside a plot
SPANNED_OF_A_TASK: Final = 2_000  # runs that are looked at


@dataclass(frozen=True)
class Sections:
    """What is asked of the database besides the stations; None: nobody has answered yet."""

    runs: dict[str, Any] | None = None
    consistency: dict[str, Any] | None = None
    schedule: list[dict[str, Any]] | None = None
    dead_letters: dict[str, Any] | None = None
    findings: list[dict[str, Any]] | None = None
    findings_total: dict[str, int] | None = None
    incidents: list[dict[str, Any]] | None = None


def runs() -> dict[str, Any]:
    """Active runs, and the newest of those that no event caused. Raises DatabaseAway."""
    with db.transaction() as connection:
        found = connection.exec_driver_sql(SQL["recent_runs"], {"tasks": SHOWN, "limit": LISTED})
        recent = [ledger.Run(*row).as_dict() for row in found]
    return {"active": [run.as_dict() for run in ledger.active(LISTED)], "recent": recent}


def slow_sections() -> Sections:
    """What changes slowly or costs more. Raises DatabaseAway."""
    return Sections(
        consistency=nines.levels(),
        schedule=schedule(),
        dead_letters=_dead_letters(),
        incidents=[one.as_dict() for one in incidents.listed(LISTED)],
        **_findings(),
    )


def history(begin: datetime, end: datetime) -> list[dict[str, Any]]:
    """Buckets of this time, oldest first: rates a second, depths, freshness in ms. Raises DatabaseAway."""
    step = max(5.0, (end - begin).total_seconds() / POINTS)
    with db.transaction() as connection:
        found = connection.exec_driver_sql(SQL["past"], {"step": step, "begin": begin, "end": end})
        return [_point(*row) for row in found]


def spans(begin: datetime, end: datetime) -> dict[str, Any]:
    """Incidents and runs of this time without event batches, the longest ones; whether these are all of them. Raises
    DatabaseAway."""
    parameters = {"begin": begin, "end": end, "tasks": SHOWN, "each": SPANNED_OF_A_TASK, "limit": SPANNED + 1}
    with db.transaction() as connection:
        runs_ = [ledger.Run(*row).as_dict() for row in connection.exec_driver_sql(SQL["spanning_runs"], parameters)]
    troubles = [one.as_dict() for one in incidents.between(begin, end, SPANNED + 1)]
    is_whole = len(runs_) <= SPANNED and len(troubles) <= SPANNED
    return {"incidents": troubles[:SPANNED], "runs": runs_[:SPANNED], "is_whole": is_whole}


@dataclass(frozen=True)
class LastCanary:
    """The last canary that came through, as far as anybody knows."""

    ms: float | None = None
    age_seconds: float | None = None

    def state(self, stands: Station | None) -> str:
        """ok, slow, absent or unknown. Where something stands there is none to wait for."""
        if stands and (stands.code == "canary_absent" or (self.age_seconds or 0.0) > settings().canary_seconds):
            return "absent"
        if (
            self.ms is None
            or self.age_seconds is None
            or self.age_seconds > settings().canary_seconds + CANARY_GRACE_SECONDS
        ):
            return "unknown"  # or none was sent, while nobody observed
        return "slow" if self.ms > settings().freshness_target_ms else "ok"


def assemble(look: Look, canary: LastCanary, sections: Sections, judged: Judged, known_at: datetime) -> dict[str, Any]:
    """The whole state; `known_at`: when the database answered last."""
    stations, guilty = way(look), culprit(look)
    stored, carried = look.stored.value, look.carried.value
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "health": judged.as_dict(),
        "unknown_since": None if stored else known_at.isoformat(timespec="milliseconds"),
        "pipeline": _pipeline(stations, guilty),
        "freshness": {
            "p50_ms": stored.p50_ms if stored else None,
            "p99_ms": stored.p99_ms if stored else None,
            "events": stored.events if stored else None,
            "canary_ms": canary.ms and round(canary.ms, 2),
            "canary_age_seconds": canary.age_seconds and round(canary.age_seconds, 1),
            "canary": canary.state(guilty),
        },
        "stations": [station.as_dict() for station in stations],
        "workers": list(carried.workers) if carried else None,
        "changed_seconds": stored.changed_seconds if stored else None,
        **{name: getattr(sections, name) for name in SECTIONS},
        "setup": _setup(),
    }


def _pipeline(stations: list[Station], guilty: Station | None) -> dict[str, Any]:
    """The worst there is on the way: what stands, what is slow, what nobody knows."""
    told = guilty or next((one for state in ("slow", "unknown") for one in stations if one.state == state), None)
    if told is None:
        return {"state": "ok", "station": None, "code": "ok", "values": {}, "why": "Every change comes through."}
    names = ("state", "code", "values", "why")
    return {name: told.as_dict()[name] for name in names} | {"station": told.name}


def _setup() -> dict[str, Any]:
    return {
        "workers": not settings().in_process,
        "guarded": bool(settings().keys),
        "closed": settings().app_env == "production" and not settings().keys,
        "canary_seconds": settings().canary_seconds if settings().observer else 0,
        "freshness_target_ms": settings().freshness_target_ms,
        "demo": settings().demo,
        "adopted": definition.current().is_adopted,
    }


def _dead_letters() -> dict[str, Any]:
    with db.transaction() as connection:
        found = list(connection.exec_driver_sql(SQL["buried"]))
    kinds = {kind: {"letters": letters, "last": last.isoformat()} for kind, letters, last in found}
    return {"open": sum(kind["letters"] for kind in kinds.values()), "kinds": kinds}


def _findings() -> dict[str, Any]:
    with db.transaction() as connection:
        rows = connection.exec_driver_sql(OBSERVING["findings"], {"limit": LISTED}).mappings()
        newest = [{name: _plain(value) for name, value in row.items()} for row in rows]
        total = dict(connection.exec_driver_sql(OBSERVING["findings_total"]).mappings().one())
        return {"findings": newest, "findings_total": total}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _point(
    at: datetime, seconds: float, captured: int, applied: int, outbox: int | None, queue: int | None,
    canary_ms: float | None, buckets: list[int | None],
) -> dict[str, Any]:  # fmt: skip
    counts = [number or 0 for number in buckets]
    return {
        "at": at.isoformat(),
        "captured_per_second": round(captured / seconds, 2),
        "applied_per_second": round(applied / seconds, 2),
        "outbox_rows": outbox,
        "queue_messages": queue,
        "canary_ms": canary_ms and round(canary_ms, 2),
        "p50_ms": latency.percentile(counts, 0.5),
        "p99_ms": latency.percentile(counts, 0.99),
    }
