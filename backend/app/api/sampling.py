"""What callers without a key could write into the audit log as often as they like: one entry a kind and minute, and a
count of those that were like it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from backend.app.access.audit_log import AuditEntry
from backend.app.api.edge.shares import network

WINDOW_SECONDS: Final = 60.0  # in which entries of one kind are one entry, and its count
HOUR_SECONDS: Final = 3600.0
MOST_OF_ALL: Final = 600  # kinds an hour that get an entry
MOST_OF_ONE: Final = 60  # of them from one address, so that it cannot hide what others do
Kind = tuple[str, str | None, int, str | None]  # network, name of the key, status, detail


@dataclass
class SampledEntry:
    """The first entry of a kind, and how many came after it."""

    first: AuditEntry
    ends: float  # monotonic seconds
    more: int = 0


class Sampling:
    """Of one process; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: dict[Kind, SampledEntry] = {}
        self._hour, self._begun = 0.0, Counter[str]()  # monotonic seconds of its begin; kinds since then, by network
        self._uncounted: SampledEntry | None = None  # what had no sample of its own

    def __len__(self) -> int:
        return len(self._samples) + (self._uncounted is not None)

    def takes(self, entry: AuditEntry, now: float) -> bool:
        """Whether the entry is to be written as it is; else it has been counted."""
        caller = network(entry.address)
        kind = (caller, entry.name, entry.status, entry.detail)
        with self._lock:
            if sample := self._samples.get(kind) or (None if self._may_begin(caller, now) else self._rest(entry, now)):
                sample.more += 1
                return False
            self._begun[caller] += 1
            self._samples[kind] = SampledEntry(entry, now + WINDOW_SECONDS)
            return True

    def counts(self, now: float) -> list[AuditEntry]:
        """Entries that say how many were like another one, of windows that have ended by now."""
        with self._lock:
            ended = [sample for sample in self._samples.values() if sample.ends <= now]
            self._samples = {kind: sample for kind, sample in self._samples.items() if sample.ends > now}
            if self._uncounted and self._uncounted.ends <= now:
                ended.append(self._uncounted)
                self._uncounted = None
        return [_told(sample) for sample in ended if sample.more]

    def _may_begin(self, caller: str, now: float) -> bool:
        if now - self._hour >= HOUR_SECONDS or not self._hour:
            self._hour = now
            self._begun.clear()
        return self._begun.total() < MOST_OF_ALL and self._begun[caller] < MOST_OF_ONE

    def _rest(self, entry: AuditEntry, now: float) -> SampledEntry:
        if self._uncounted is None:
            anybody = replace(entry, name=None, role=None, address=None, detail="refused, from any address")
            self._uncounted = SampledEntry(anybody, now + HOUR_SECONDS)
        return self._uncounted


def _told(sample: SampledEntry) -> AuditEntry:
    detail = f"{sample.first.detail or 'failed'} ({sample.more:,} more like this one)"
    return replace(sample.first, detail=detail)
