"""What readiness answers: a verdict of now, and the incidents that the observer has written down before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from backend.app.errors import DatabaseAway
from backend.app.health.incidents import Incident, open_now
from backend.app.health.judge import Judge, Verdict, Wrong, readable
from backend.app.health.kinds import KINDS, PARTS
from backend.app.health.signs import Looker, Signs
from backend.app.settings import settings

FIRST_LOOK_SECONDS: Final = 10.0  # a process that has just started connects for the first time
EVENTS: Final = ("relay", "worker")


def now() -> dict[str, Any]:
    """The report of one look, for a process that has not watched; never raises because a server is away."""
    seen = Looker(FIRST_LOOK_SECONDS).look()
    return report(Judge().judge(seen), _open(seen))


def report(verdict: Verdict, incidents: Sequence[Incident]) -> dict[str, Any]:
    """Status, a sentence for database, broker and events, and all parts.

    The observer has watched for longer than whoever is asked for the first time, so its open incidents count as well.
    """
    wrong = {(one.kind, one.subject): one for one in (*_written(incidents, verdict), *verdict.wrong)}
    began = {(one.kind, one.subject): one.began_at for one in incidents}
    parts = [_part(name, verdict, [one for one in wrong.values() if _part_of(one) == name], began) for name in PARTS]
    sentences = {part["name"]: part["effect"] for part in parts if part["state"] == "bad"}
    return {
        "status": _status(wrong.values()),
        "database": sentences.get("database", "ok"),
        "broker": sentences.get("broker", "ok (in-process)" if settings().in_process else "ok"),
        "events": " ".join(sentences[name] for name in EVENTS if name in sentences) or "ok",
        "parts": parts,
    }


def _open(seen: Signs) -> list[Incident]:
    """Those of a database that can be read."""
    try:
        return open_now() if readable(seen) else []
    except DatabaseAway:
        return []


def _written(incidents: Iterable[Incident], verdict: Verdict) -> list[Wrong]:
    """Open incidents that take time to show; the others are judged anew at each question."""
    return [
        Wrong(one.kind, one.subject, one.values, one.seconds)
        for one in incidents
        if one.kind in KINDS and KINDS[one.kind].takes_time and KINDS[one.kind].part not in verdict.unknown
    ]


def _status(wrong: Iterable[Wrong]) -> str:
    kinds = [KINDS[one.kind] for one in wrong]
    if any(kind.serves for kind in kinds):
        return "unavailable"
    return "degraded" if kinds else "ok"


def _part(name: str, verdict: Verdict, wrong: list[Wrong], began: dict[tuple[str, str], datetime]) -> dict[str, Any]:
    now = datetime.now(UTC)
    since = [min(one.since(now), began.get((one.kind, one.subject), now)) for one in wrong]
    return {
        "name": name,
        "state": "bad" if wrong else verdict.state(name),
        "since": min(since, default=None),
        "effect": " ".join(one.effect for one in wrong) or None,
        "advice": " ".join(dict.fromkeys(KINDS[one.kind].advice for one in wrong)) or None,
    }


def _part_of(one: Wrong) -> str:
    return KINDS[one.kind].part
