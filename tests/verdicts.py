"""What health says: in this process, as an observer judges it, and in an answer of readiness."""

from __future__ import annotations

from typing import Any

from backend.app.health.judge import Judge, Verdict
from backend.app.health.kinds import KINDS
from backend.app.health.signs import Looker


def verdict() -> Verdict:
    """Of who has looked for a minute, and bears for a second what takes its time."""
    judge, looker = Judge(patience=1), Looker()
    judge.judge(looker.look(), now=0)
    return judge.judge(looker.look(), now=60)


def kinds(name: str) -> set[str]:
    """What is wrong with the part of this name; also nothing while it is unknown."""
    return {one.kind for one in verdict().wrong if KINDS[one.kind].part == name}


def part(found: dict[str, Any], name: str) -> dict[str, Any]:
    """What an answer says of the part of this name."""
    return next(one for one in found["parts"] if one["name"] == name)
