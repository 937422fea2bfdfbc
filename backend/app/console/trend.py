"""What one reading cannot tell: rates, and since when something has not moved."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from backend.app.console.readings import Carried, Stored

SECONDS: Final = 5.0  # over which rates are taken


@dataclass(frozen=True)
class Rates:
    """Events a second over the last seconds, and how long there was no movement."""

    captured: float = 0.0  # that writers put into the outbox
    published: float = 0.0  # that left it
    unmoved_seconds: float = 0.0  # since an event left the outbox while some waited in it
    silent_seconds: float = 0.0  # since a consuming worker answered


class Trend:
    """Remembers the readings of the last seconds."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, int, int]] = deque()  # (monotonic seconds, last id, first id that waits)
        self._moved_at: float | None = None
        self._answered_at: float | None = None

    def take(self, now: float, stored: Stored | None, carried: Carried | None) -> Rates:
        """Add a reading; `now` in monotonic seconds."""
        if stored is not None:
            self._take_stored(now, stored)
        if carried is not None and (carried.workers or not carried.consumers):
            self._answered_at = now
        silent = now - (now if self._answered_at is None else self._answered_at)
        if self._answered_at is None:
            self._answered_at = now
        unmoved = now - (now if self._moved_at is None else self._moved_at)
        return Rates(*self._rates(), unmoved_seconds=unmoved, silent_seconds=silent)

    def _take_stored(self, now: float, stored: Stored) -> None:
        if self._past and stored.last_id < self._past[-1][1]:  # the sequence was set back by hand
            self._past.clear()
        if not self._past or not stored.outbox_rows or stored.first_waiting > self._past[-1][2]:
            self._moved_at = now
        self._past.append((now, stored.last_id, stored.first_waiting))
        while len(self._past) > 2 and now - self._past[1][0] >= SECONDS:
            self._past.popleft()

    def _rates(self) -> tuple[float, float]:
        if len(self._past) < 2:
            return 0.0, 0.0
        (began, last, first), (ended, last_now, first_now) = self._past[0], self._past[-1]
        seconds = max(ended - began, 1e-3)
        return max(0.0, (last_now - last) / seconds), max(0.0, (first_now - first) / seconds)
