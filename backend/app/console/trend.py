"""What one reading cannot tell: rates."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from backend.app.console.readings import Stored

SECONDS: Final = 5.0  # over which rates are taken


@dataclass(frozen=True)
class Rates:
    """Events a second over the last seconds; None: unknown."""

    captured: float | None = None  # that writers put into the outbox
    published: float | None = None  # that left it


class Trend:
    """Remembers the readings of the last seconds."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, int, int]] = deque()  # (monotonic seconds, last id, first id that waits)

    def take(self, now: float, stored: Stored | None) -> Rates:
        """Add a reading; `now` in monotonic seconds."""
        if stored is None:
            self._past.clear()
            return Rates()
        if self._past and stored.last_id < self._past[-1][1]:  # the sequence was set back by hand
            self._past.clear()
        self._past.append((now, stored.last_id, stored.first_waiting))
        while len(self._past) > 2 and now - self._past[1][0] >= SECONDS:
            self._past.popleft()
        return self._rates()

    def _rates(self) -> Rates:
        if len(self._past) < 2:
            return Rates()
        (began, last, first), (ended, last_now, first_now) = self._past[0], self._past[-1]
        seconds = max(ended - began, 1e-3)
        return Rates(max(0.0, (last_now - last) / seconds), max(0.0, (first_now - first) / seconds))
