"""What clients did and saw, and whether it could have been so.

Each subject has one writer, who writes one value after the other and none twice. So a value tells which write it is of,
and a read has to be of a write that had begun by its end and was not superseded for longer than the bound before it
began; with `fresh: yes` not at all. What one client reads never goes back. A write without an answer may have happened
or not; its client leaves that subject alone from then on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Value = int | None  # None: before the first write


@dataclass(frozen=True)
class Write:
    """One write; instants by one clock, in seconds."""

    subject: str
    value: int
    begin: float
    end: float | None  # None: no answer came


@dataclass(frozen=True)
class Read:
    """One read."""

    subject: str
    client: int
    value: Value
    begin: float
    end: float
    is_fresh: bool  # the answer said so


def violations(writes: Iterable[Write], reads: Iterable[Read], bound: float) -> list[str]:
    """Every read that could not have been, in a sentence; `bound`: seconds that a cache may be behind."""
    by_subject: dict[str, list[Write]] = defaultdict(list)
    for write in writes:
        by_subject[write.subject].append(write)
    seen: dict[tuple[int, str], int] = {}
    found = []
    for read in sorted(reads, key=lambda read: read.begin):
        own = by_subject[read.subject]
        number = _number(own, read.value)
        found += _wrong(own, read, number, seen.get((read.client, read.subject), 0), bound)
        seen[read.client, read.subject] = max(number, seen.get((read.client, read.subject), 0))
    return found


def _number(writes: Sequence[Write], value: Value) -> int:
    """Of the write that the value is of, from 1; 0: before the first, -1: nobody wrote it."""
    if value is None:
        return 0
    return next((number for number, write in enumerate(writes, 1) if write.value == value), -1)


def _wrong(writes: Sequence[Write], read: Read, number: int, seen: int, bound: float) -> list[str]:
    what = f"{read.subject} read as {read.value} by client {read.client} at {read.begin:.3f}"
    if number < 0 or (number and writes[number - 1].begin > read.end):
        return [f"{what}: nobody had written that"]
    if number < seen:
        return [f"{what}: it had seen {writes[seen - 1].value} before"]
    allowed = 0.0 if read.is_fresh else bound
    later = [write for write in writes[number:] if write.end is not None and write.end < read.begin - allowed]
    if later:
        how = "though it said fresh" if read.is_fresh else f"more than {bound:g} s"
        return [f"{what}: {later[-1].value} had been written at {later[-1].end:.3f}, {how}"]
    return []
