"""The verdict on top of the page: what needs a person, by the one judge of health, and what nobody can say now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from backend.app.health.incidents import Incident, Overview
from backend.app.health.judge import Judge, Verdict, Wrong
from backend.app.health.kinds import PARTS
from backend.app.health.readiness import standing
from backend.app.health.signs import Signs
from backend.app.settings import settings

State = Literal["well", "bad", "unknown"]
PATIENCE_SECONDS: Final = 5.0  # a person who looks is told sooner what stands than whoever is paged
SERVED_BY_BROKER: Final = frozenset(("broker", "worker"))


@dataclass(frozen=True)
class Judged:
    """One look at health."""

    verdict: Verdict
    overview: Overview | None  # None: the database did not answer
    stands: tuple[Wrong, ...] = ()  # what stands at the stations, seen with less patience

    def as_dict(self) -> dict[str, Any]:
        """The page's `health`."""
        wrong = [one.as_dict() for one in standing(self.verdict, self._open())]
        wrong.sort(key=lambda one: (one["severity"] != "critical", PARTS.index(one["part"]), one["subject"]))
        unknown = [part for part in PARTS if self.verdict.state(part) == "unknown"]
        return {
            "state": "bad" if wrong else _state(unknown),
            "since": self._since(wrong),
            "unknown": unknown,
            "wrong": wrong,
        }

    def _open(self) -> list[Incident]:
        return self.overview.open if self.overview else []

    def _since(self, wrong: list[dict[str, Any]]) -> str | None:
        if wrong:
            return str(min(one["since"] for one in wrong))
        since = self.overview.well_since if self.overview else None
        return since.isoformat() if since else None


@dataclass
class Health:
    """Looks again and again, as a judge does."""

    _judge: Judge = field(default_factory=Judge)
    _quick: Judge = field(default_factory=lambda: Judge(PATIENCE_SECONDS))

    def take(self, signs: Signs, overview: Overview | None, is_broker_asked: bool = True) -> Judged:
        """Judge these signs; as long as the broker was not asked yet, what it serves is unknown."""
        verdict = self._judge.judge(signs)
        if not is_broker_asked and not settings().in_process:
            verdict = replace(verdict, unknown=verdict.unknown | SERVED_BY_BROKER)
        return Judged(verdict, overview, self._quick.judge(signs).wrong)


def _state(unknown: Collection[str]) -> State:
    """A schedule that has not come round yet leaves the rest well: the page says so beside it."""
    return "unknown" if set(unknown) - {"schedule"} else "well"
