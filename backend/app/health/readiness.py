"""What readiness answers: a verdict of now, and the incidents that the observer has written down before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from backend.app.database.replica import ReplicaSigns
from backend.app.errors import DatabaseAway
from backend.app.health.incidents import Incident, open_now
from backend.app.health.judge import Judge, Verdict, Wrong, readable
from backend.app.health.kinds import KINDS, PARTS, Kind
from backend.app.health.signs import Looker, Signs
from backend.app.settings import settings

FIRST_LOOK_SECONDS: Final = 10.0  # a process that has just started connects for the first time
EVENTS: Final = ("relay", "worker")


def now() -> dict[str, Any]:
    """The report of one look, for a process that has not watched; never raises because a server is away."""
    seen = Looker(FIRST_LOOK_SECONDS).look()
    return report(Judge().judge(seen), _open(seen), seen.replica.value)


@dataclass(frozen=True)
class Standing:
    """One thing that is wrong, and since when."""

    kind: Kind
    subject: str
    since: datetime
    values: dict[str, Any]
    effect: str

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "kind": self.kind.name,
            "subject": self.subject,
            "part": self.kind.part,
            "severity": self.kind.severity,
            "since": self.since.isoformat(),
            "values": self.values,
            "effect": self.effect,
            "advice": self.kind.advice,
        }


def report(verdict: Verdict, incidents: Sequence[Incident], replica: ReplicaSigns | None = None) -> dict[str, Any]:
    """Status, a sentence for database, reads, broker and events, and all parts.

    The observer has watched for longer than whoever is asked for the first time, so its open incidents count as well.
    """
    wrong = standing(verdict, incidents)
    parts = [_part(name, verdict, [one for one in wrong if one.kind.part == name]) for name in PARTS]
    sentences = {part["name"]: part["effect"] for part in parts if part["state"] == "bad"}
    return {
        "status": _status(wrong),
        "database": sentences.get("database", "ok"),
        "reads": sentences.get("reads", _reads(replica)),
        "broker": sentences.get("broker", "ok (in-process)" if settings().in_process else "ok"),
        "events": " ".join(sentences[name] for name in EVENTS if name in sentences) or "ok",
        "parts": parts,
    }


def _reads(replica: ReplicaSigns | None) -> str:
    """How old what is read of the caches may be, beside what the primary has of them."""
    if not settings().database_read_url:
        return "ok"
    if replica is None or replica.behind_seconds is None:
        return "unknown"
    return f"ok, at most {replica.behind_seconds:.1f} s old; READ_LAG_SECONDS allows {settings().read_lag_seconds:g}"


def _open(seen: Signs) -> list[Incident]:
    """Those of a database that can be read."""
    try:
        return open_now() if readable(seen) else []
    except DatabaseAway:
        return []


def standing(verdict: Verdict, incidents: Sequence[Incident]) -> list[Standing]:
    """All that is wrong: what is judged now, and what the observer has written down and nobody can see at once."""
    at = datetime.now(UTC)
    began = {(one.kind, one.subject): one.began_at for one in incidents}
    wrong = {(one.kind, one.subject): one for one in (*_written(incidents, verdict), *verdict.wrong)}
    return [
        Standing(KINDS[one.kind], one.subject, min(one.since(at), began.get(name, at)), one.values, one.effect)
        for name, one in wrong.items()
    ]


def _written(incidents: Iterable[Incident], verdict: Verdict) -> list[Wrong]:
    """Open incidents that take time to show; the others are judged anew at each question."""
    return [
        Wrong(one.kind, one.subject, one.values, one.seconds)
        for one in incidents
        if one.kind in KINDS and KINDS[one.kind].takes_time and KINDS[one.kind].part not in verdict.unknown
    ]


def _status(wrong: Iterable[Standing]) -> str:
    severities = {one.kind.severity for one in wrong}
    if "critical" in severities:
        return "unavailable"
    return "degraded" if severities else "ok"


def _part(name: str, verdict: Verdict, wrong: list[Standing]) -> dict[str, Any]:
    return {
        "name": name,
        "state": "bad" if wrong else verdict.state(name),
        "since": min((one.since for one in wrong), default=None),
        "effect": " ".join(one.effect for one in wrong) or None,
        "advice": " ".join(dict.fromkeys(one.kind.advice for one in wrong)) or None,
    }
