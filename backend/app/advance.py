"""Whether events advance: a process that runs, and even answers, may have stopped to work.

Each stage has a mark that moves while it works: the relay deletes the oldest outbox row, workers record runs. A stage
that has work and whose mark stands still, look after look, has stalled. What is asked are the traces of the work, so
it does not matter why it stands: suspended, wedged, waiting for a lock, or not started at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from backend.app import broker
from backend.app.errors import Stalled
from backend.app.settings import settings

REPLY_SECONDS: Final = 0.5  # for workers to say what they hold; one that is well takes milliseconds
OLDEST_ROW: Final = "SELECT min(id) FROM event_outbox"
LAST_RUN: Final = (
    "SELECT task_id::text FROM task_runs WHERE task = 'apply_catalog_events' ORDER BY queued_at DESC LIMIT 1"
)
Query = Callable[[str], Any]  # runs a statement; the first column of its first row, None when there is none


@dataclass
class Stage:
    """What one stage looked like when its mark moved last."""

    mark: object = None
    since: float | None = None  # monotonic seconds; None while there is no work

    def seconds_still(self, has_work: bool, mark: object, now: float) -> float:
        """How long it has had work and not moved."""
        if not has_work:
            self.since = None
        elif self.since is None or mark != self.mark:
            self.since = now
        self.mark = mark
        return 0.0 if self.since is None else now - self.since


@dataclass
class Watch:
    """Looks at all stages; one of these in each process that wants to know."""

    _relay: Stage = field(default_factory=Stage)
    _workers: Stage = field(default_factory=Stage)
    _silence: Stage = field(default_factory=Stage)

    def look(self, query: Query, now: float | None = None) -> None:
        """Raises Stalled with a sentence that says what stands still, Away when a server is away."""
        now = time.monotonic() if now is None else now
        oldest = query(OLDEST_ROW)
        self._judge(self._relay.seconds_still(oldest is not None, oldest, now), "the relay publishes none of them")
        if settings().in_process:
            return
        waiting = broker.waiting(reply_seconds=REPLY_SECONDS, connected=lambda: query(broker.CONNECTED_WORKERS))
        still = self._workers.seconds_still(waiting.messages > 0, query(LAST_RUN), now)
        self._judge(still, f"no worker applies any of {waiting.messages} messages")
        silent = self._silence.seconds_still(waiting.silent > 0, waiting.silent, now)
        self._judge(silent, f"{waiting.silent} worker(s) that may hold some give no answer")

    def _judge(self, seconds: float, what: str) -> None:
        if seconds >= settings().stall_seconds:
            raise Stalled(f"events stand still: for {seconds:.0f} s {what}")
