"""The log of events for replay: what a reader of it says and gives, wherever the log is.

`stream.py` reads the broker's stream, `table.py` the table where there is none. A reading begins at an offset or an
instant and ends at a mark, which is the log's present end when the reading begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol

from events.contract import Event
from events.errors import Malformed

LogSource = Literal["stream", "table"]
WantedLog = Literal["stream", "table", "auto"]  # auto: the stream where the broker has streams
Start = int | datetime | Literal["first"]


class Logged(NamedTuple):
    """What stands at one offset."""

    offset: int
    events: list[Event | Malformed]
    timestamp: Any  # seconds since the epoch, or as the AMQP client gives it

    @property
    def published_at(self) -> float:
        """Seconds since the epoch, whole; 0.0 when the publisher did not say."""
        stamp = self.timestamp
        return stamp.replace(tzinfo=UTC).timestamp() if isinstance(stamp, datetime) else float(stamp or 0)


@dataclass(frozen=True)
class Beginning:
    """Where the log begins."""

    offset: int  # of what stands first, of whatever kind; above zero when older events were dropped
    time: str | None  # of the oldest event that is found first; None: none is there
    since: float | None  # seconds since the epoch from when on it has every event; None: it always had


class LogReader(Protocol):
    """Reads the log."""

    def beginning(self) -> Beginning:
        """Where it begins."""
        ...

    def end(self) -> int:
        """About the last offset."""
        ...

    def new_marker(self) -> str:
        """A name for the end of a reading, today or when it goes on."""
        ...

    def knows(self, marker: str) -> bool:
        """Whether the marker is one of this log."""
        ...

    def read(self, start: Start, marker: str, mark: bool = False) -> Iterator[Logged]:
        """From `start` up to the marker, which `mark` sets now. Raises LogTooShort when that offset was dropped."""
        ...
