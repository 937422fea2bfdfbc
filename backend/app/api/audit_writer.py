"""Writes the audit log beside the requests: entries that come together share a transaction.

A guarded request is answered when its entry is in the table, or after a short patience: a database that is away must
not keep anyone waiting. Entries wait for it in memory then; those that it does not take in the end go to the log.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from backend.app.access import audit_log
from backend.app.access.audit_log import AuditEntry
from backend.app.api import database, deadline
from backend.app.api.sampling import Sampling
from backend.app.telemetry import metrics
from backend.app.telemetry.logs import masked

log = logging.getLogger(__name__)
PATIENCE_SECONDS: Final = 0.4  # of one request
MOST_WAITING: Final = 10_000  # entries
MOST_TOGETHER: Final = 500  # of one transaction
PAUSE_SECONDS: Final = 0.5  # while the database is away
STOP_SECONDS: Final = 2.0
Waiting = tuple[AuditEntry, "Future[None]"]


class AuditWriter:
    """One a process; its thread begins with the first entry."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Waiting] = queue.Queue(MOST_WAITING)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._sampling = Sampling()

    async def keep(self, entry: AuditEntry, refused: bool = False) -> None:
        """Write one entry down; of refusals, and of failures of callers without a name, one a kind and their number."""
        sampled = refused or (entry.name is None and entry.status >= 400)
        if not sampled or self._sampling.takes(entry, time.monotonic()):
            await self._write(entry)

    async def _write(self, entry: AuditEntry) -> None:
        """Returns when it is in the table, or when patience ends."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="audit writer", daemon=True)
            self._thread.start()
        written: Future[None] = Future()
        try:
            self._waiting.put_nowait((entry, written))
        except queue.Full:
            return _lose([entry])
        with suppress(TimeoutError):
            async with asyncio.timeout(min(PATIENCE_SECONDS, deadline.remaining() - 0.1)):
                await asyncio.wrap_future(written)

    def stop(self) -> None:
        """Write what waits, for two seconds at most."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        _lose([entry for entry, _ in self._take(0)])

    def _run(self) -> None:
        kept: list[Waiting] = []
        ends = float("inf")
        while (
            not (self._stop.is_set() and not kept and self._waiting.empty() and not self._sampling)
            and time.monotonic() < ends
        ):
            if self._stop.is_set():
                ends = min(ends, time.monotonic() + STOP_SECONDS / 2)
            kept = kept or [*self._take(PAUSE_SECONDS), *self._counts()]
            if kept and self._written([entry for entry, _ in kept]):
                for _, written in kept:
                    with suppress(InvalidStateError):  # its request has lost its patience
                        written.set_result(None)
                kept = []
        _lose([entry for entry, _ in kept])

    def _take(self, seconds: float) -> list[Waiting]:
        """All that waits; for the first one wait so long."""
        found: list[Waiting] = []
        with suppress(queue.Empty):
            found.append(self._waiting.get(timeout=seconds) if seconds else self._waiting.get_nowait())
            while len(found) < MOST_TOGETHER or not seconds:
                found.append(self._waiting.get_nowait())
        return found

    def _counts(self) -> list[Waiting]:
        now = float("inf") if self._stop.is_set() else time.monotonic()
        return [(entry, Future()) for entry in self._sampling.counts(now)]

    def _written(self, entries: list[AuditEntry]) -> bool:
        try:
            database.prepare()
            audit_log.write(entries)
        except Exception as failure:  # whatever a driver raises: the entries must not be lost with this thread
            log.warning("the audit log waits: %s", failure)
            time.sleep(PAUSE_SECONDS)
            return False
        return True


def _lose(entries: list[AuditEntry]) -> None:
    metrics.AUDIT_LOST.inc(len(entries))
    for entry in entries:
        told = {f"audit_{name}": masked(str(value)) for name, value in asdict(entry).items() if value is not None}
        log.error("audit: an entry is here and not in the table", extra=told)
