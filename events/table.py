"""The log where the broker has no stream: the table `event_log`, into which the relay moves what was delivered.

Its positions are without gaps and in the order of their delivery, since one relay leads; a replay calls them offsets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from events import contract
from events.errors import LogTooShort
from events.log import Beginning, Logged, LogSource, Start
from events.sql_files import statements

SQL: Final = statements(Path(__file__).parent / "sql" / "table.sql")
MARKER: Final = "position "  # before the number of the first position that is not read
PAGE: Final = 5_000  # events read at a time, of about 200 bytes each: images stay where they are


class RunStatement(Protocol):
    """Runs a statement; all rows of the answer."""

    def __call__(self, sql: str, parameters: dict[str, Any]) -> list[Any]: ...


@dataclass(frozen=True)
class LogChoice:
    """Which log the relay fills."""

    source: LogSource | None  # None: no relay has led yet
    since: datetime | None  # it has every event from then on; None: it always had
    reason: str | None  # why it is no stream, where it is none


def chosen(ask: RunStatement) -> LogChoice:
    """As the database has it."""
    return LogChoice(*ask(SQL["source"], {})[0])


class TableLog:
    """Reads the table by pages, each in a transaction of its own, so that nothing is held for long."""

    def __init__(self, ask: RunStatement) -> None:
        self._ask = ask

    def beginning(self) -> Beginning:
        """Where it begins; an empty one where the next event will stand."""
        source, since, _ = self._ask(SQL["source"], {})[0]
        complete = since.timestamp() if since and source == "table" else None
        first = self._ask(SQL["first"], {})
        position, time = first[0] if first else (self._next_position(), None)
        return Beginning(position, time, complete)

    def end(self) -> int:
        """The last offset; -1 where there never was one."""
        return self._next_position() - 1

    def new_marker(self) -> str:
        """Names the present end."""
        return f"{MARKER}{self._next_position()}"

    def knows(self, marker: str) -> bool:
        """Whether it was made here."""
        return marker.startswith(MARKER)

    def read(self, start: Start, marker: str, mark: bool = False) -> Iterator[Logged]:
        """Events from `start` up to the marker, which stood at the end when it was made. Raises LogTooShort."""
        position = start if isinstance(start, int) else 0
        since = start if isinstance(start, datetime) else datetime.min.replace(tzinfo=UTC)
        asked = {"end": int(marker.removeprefix(MARKER)), "since": since.replace(microsecond=0), "rows": PAGE}
        is_first = not isinstance(start, int)
        while rows := self._ask(SQL["page"], asked | {"position": position}):
            if rows[0][0] > position and not is_first:
                self._refuse_dropped(position)
            is_first = False
            yield from (_logged(*row) for row in rows)
            position = rows[-1][0] + 1

    def _refuse_dropped(self, position: int) -> None:
        begins = self.beginning().offset
        if begins > position:
            raise LogTooShort(f"the log begins at offset {begins}; offset {position} is not there any more")

    def _next_position(self) -> int:
        return int(self._ask(SQL["next_position"], {})[0][0])


def _logged(
    position: int, published_at: float, event_id: str, kind: str, subject: str, time: str, traceparent: str | None
) -> Logged:
    event = contract.slim_event(event_id, kind, subject, time, traceparent, "")
    return Logged(position, [event], published_at)
