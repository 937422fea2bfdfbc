"""Times of events: RFC 3339 texts of any publisher, compared as instants and never believed beyond now."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MOST_CHARACTERS: Final = 64  # of a time; what is longer is none
LEAP_SECOND: Final = slice(17, 19)  # where the seconds stand, which RFC 3339 lets be 60


def seconds(text: Any, now: float | None = None) -> float | None:
    """Seconds since the epoch, between 0 and `now`: a clock that is ahead tells nothing. None of what is no time."""
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        return None
    try:
        at = datetime.fromisoformat(_without_leap_second(text.upper()))
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return max(0.0, min((at - EPOCH).total_seconds(), time.time() if now is None else now))


def _without_leap_second(text: str) -> str:
    return text[:17] + "59" + text[19:] if text[LEAP_SECOND] == "60" else text


def text(at: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def earliest(texts: Iterable[Any]) -> str | None:
    """The oldest of some times; None of none, and when one of them is unknown, since it may be older than all."""
    found = [seconds(one) for one in texts]
    known = [at for at in found if at is not None]
    return text(min(known)) if known and len(known) == len(found) else None


def latest(texts: Iterable[Any]) -> str | None:
    """The newest of those that are known; None of none."""
    known = [at for one in texts if (at := seconds(one)) is not None]
    return text(max(known)) if known else None
