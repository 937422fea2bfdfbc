"""From outbox rows to messages: rows of one type that follow each other share one, within the contract's limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from events import contract
from events.outbox import Row


@dataclass(frozen=True, eq=False)
class Outgoing:
    """One message: an encoded batch and the outbox rows that it carries."""

    rows: list[Row]  # as they travel: slim ones say why
    type: str
    body: bytes

    @property
    def ids(self) -> list[int]:
        """Of the outbox rows."""
        return [row.id for row in self.rows]

    @property
    def slim(self) -> list[Row]:
        """Rows that travel without their images."""
        return [row for row in self.rows if row.slim is not None]

    @property
    def traceparents(self) -> list[str]:
        """Of the traced events, in their order."""
        said = [row.traceparent for row in self.rows if row.traceparent]
        return [traceparent for traceparent in said if contract.TRACEPARENT.fullmatch(traceparent)]


def messages(rows: Sequence[Row], most_bytes: int | None = None) -> Iterator[Outgoing]:
    """Pack rows that follow each other and have one type, never reordered.

    Up to the contract's limits: a larger event travels alone. `most_bytes` is what the broker takes, and an event
    above that travels slim, like one that cannot be built.
    """
    packed: list[Row] = []
    parts: list[bytes] = []
    size, limit = 2, min(contract.MOST_BYTES, most_bytes or contract.MOST_BYTES)
    for written in rows:
        row, part = _encoded(written, most_bytes)
        full = len(packed) == contract.MOST_EVENTS or size + len(part) + 1 > limit
        if packed and (row.type != packed[0].type or full):
            yield Outgoing(packed, packed[0].type, contract.join(parts))
            packed, parts, size = [], [], 2
        packed.append(row)
        parts.append(part)
        size += len(part) + 1
    if packed:
        yield Outgoing(packed, packed[0].type, contract.join(parts))


def slimmed(row: Row, reason: str) -> Row:
    """The same row without its images."""
    return row._replace(before=None, after=None, slim=reason)


def encoded_slim(row: Row) -> bytes:
    """The event of a row that travels slim."""
    slim = contract.slim_event(row.event_id, row.type, row.subject, row.time, row.traceparent, row.slim or "")
    return contract.encode_one(slim)


def _encoded(row: Row, most_bytes: int | None) -> tuple[Row, bytes]:
    if row.slim is None:
        try:
            whole = contract.encode_one(contract.event(*row[1:8]))
        except Exception as failure:  # whatever it is, it stays this one event's affair
            return _encoded(slimmed(row, f"its row cannot be read: {failure}"), most_bytes)
        if most_bytes is None or len(whole) + 2 <= most_bytes:
            return row, whole
        row = slimmed(row, f"the event has {len(whole)} bytes, and the broker takes {most_bytes}")
    return row, encoded_slim(row)
