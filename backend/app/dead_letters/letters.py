"""Dead letters: messages that cannot be read and keys whose patch fails again and again.

They are rows of a table, because people list, search and send them again. The broker's queue of the same name is
only the way in for messages that the broker itself gave up on; the worker moves those here.
"""

from __future__ import annotations

import base64
import codecs
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Connection,
    DateTime,
    Identity,
    Index,
    Integer,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from backend.app import db
from backend.app.caches.keys import Keys
from backend.app.catalog.models import Base, Instant
from backend.app.errors import sentence
from events.contract import Hint
from events.errors import Malformed, UnknownType
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
KINDS: Final = ("unreadable", "unknown_type", "failed", "undeliverable")
Kind = Literal["unreadable", "unknown_type", "failed", "undeliverable"]
MOST_PAYLOAD: Final = 256 * 1024  # characters kept of a payload
MOST_REASON: Final = 500  # characters; lists show it, and people read it
MOST_NAME: Final = 255  # characters of a subject, an id, a type
MOST_HEADERS: Final = 50
MOST_HEADER: Final = 500  # characters of a header's value
CUT: Final = "x-citycache-body-cut"  # header of a letter that keeps only the beginning of its message's body


class DeadLetterRow(Base):
    """The table."""

    __tablename__ = "dead_letters"
    __table_args__ = (
        CheckConstraint(f"kind IN {KINDS}", name="dead_letters_kind_check"),
        Index(
            "dead_letters_open_subject_idx",
            "subject",
            postgresql_where=text("closed_at IS NULL AND subject IS NOT NULL"),
        ),
        Index("dead_letters_open_idx", "id", postgresql_where=text("closed_at IS NULL")),
        Index("dead_letters_closed_at_idx", "closed_at", postgresql_where=text("closed_at IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    subject: Mapped[str | None] = mapped_column(Text)
    event_id: Mapped[str | None] = mapped_column(Text)
    event_type: Mapped[str | None] = mapped_column(Text)
    content_type: Mapped[str | None] = mapped_column(Text)
    headers: Mapped[Any | None] = mapped_column(JSONB)
    payload: Mapped[str | None] = mapped_column(Text)
    payload_encoding: Mapped[str] = mapped_column(Text, server_default=text("'utf-8'"))
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    task_id: Mapped[UUID | None] = mapped_column(Uuid)
    buried_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    requeued_at: Mapped[datetime | None] = mapped_column(Instant)
    closed_at: Mapped[datetime | None] = mapped_column(Instant)
    closed_because: Mapped[str | None] = mapped_column(Text)
    closed_by: Mapped[UUID | None] = mapped_column(Uuid)


@dataclass(frozen=True)
class DeadLetter:
    """One message or key that could not be applied."""

    kind: Kind
    reason: str  # a sentence that a person understands
    subject: str | None = None  # 'product/123'
    event_id: str | None = None
    event_type: str | None = None
    content_type: str | None = None
    headers: Mapping[str, Any] | None = None
    payload: str | None = None
    payload_encoding: str = "utf-8"  # or base64
    attempts: int = 1


def unreadable(
    failure: Malformed, body: bytes | str, content_type: str, headers: Mapping[str, Any], most: int = MOST_PAYLOAD
) -> DeadLetter:
    """A message, or the part of it, that is not an event of the contract; at most `most` characters of it are kept."""
    kind: Kind = "unknown_type" if isinstance(failure, UnknownType) else "unreadable"
    payload, encoding, is_whole = _text(body, most)
    plain = _plain(headers) if is_whole else {**_plain(headers), CUT: f"{len(body)} bytes"}
    return bounded(
        DeadLetter(
            kind, str(failure), content_type=content_type, headers=plain, payload=payload, payload_encoding=encoding
        )
    )


def failed(hint: Hint, failure: Exception, attempts: int) -> DeadLetter:
    """A key whose patch fails by itself."""
    subject = hint.noun if hint.id is None else f"{hint.noun}/{hint.id}"
    event_id, at = shortened(hint.event_id, MOST_NAME), shortened(hint.time, MOST_NAME)
    return bounded(
        DeadLetter(
            "failed",
            f"the patch of {subject} fails: {sentence(failure, MOST_REASON)}",
            subject=subject,
            event_id=event_id,
            payload=json.dumps({"id": event_id, "subject": subject, "time": at}),
            attempts=attempts,
        )
    )


def bounded(letter: DeadLetter) -> DeadLetter:
    """The letter with texts of a length that lists, indexes and addresses bear."""
    names = {name: shortened(getattr(letter, name), MOST_NAME) for name in ("subject", "event_id", "event_type")}
    return replace(
        letter,
        reason=shortened(letter.reason, MOST_REASON),
        content_type=shortened(letter.content_type, MOST_NAME),
        **names,
    )


def beginning(letter: DeadLetter, most: int) -> DeadLetter:
    """The letter with no more than so many characters of its body; it says that there were more."""
    payload = letter.payload or ""
    kept = payload[: most - most % 4]  # base64 comes in fours
    return replace(letter, payload=kept, headers={**(letter.headers or {}), CUT: f"{len(payload)} characters"})


def bare(letter: DeadLetter) -> DeadLetter:
    """Only what was wrong, without a byte that somebody else has written."""
    return DeadLetter(letter.kind, "it was wrong in a way that cannot be kept", attempts=letter.attempts)


def bury(connection: Connection, letters: Sequence[DeadLetter], task_id: str | None) -> None:
    """Keep dead letters, in the caller's transaction."""
    for portion in _portions(letters):
        parameters = {"letters": _storable([asdict(bounded(letter)) for letter in portion]), "task_id": task_id}
        connection.exec_driver_sql(SQL["bury"], parameters)


def _portions(letters: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """A few at a time where their bodies are large: a statement has each some ten times over on its way."""
    portion: list[DeadLetter] = []
    size = 0
    for letter in letters:
        portion.append(letter)
        size += len(letter.payload or "")
        if size >= MOST_PAYLOAD:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def close_patched(connection: Connection, keys: Keys, task_id: str) -> None:
    """Close the letters of keys that have just been patched, in the same transaction."""
    if keys and connection.exec_driver_sql(SQL["any_open"]).scalar_one():
        connection.exec_driver_sql(SQL["close_patched"], {"subjects": keys.subjects(), "task_id": task_id})


def listed(
    state: str = "open",
    kind: str | None = None,
    reason: str | None = None,
    group: str | None = None,
    limit: int = 50,
    before: int | None = None,
) -> list[dict[str, Any]]:
    """Letters, newest first; `state` is open, closed or all, `group` names one kind and reason as `reasons` does."""
    parameters = {"state": state, "kind": kind, "reason": reason, "group": group, "limit": limit, "before": before}
    with db.transaction() as connection:
        return [dict(row) for row in connection.exec_driver_sql(SQL["listed"], parameters).mappings()]


def reasons() -> list[dict[str, Any]]:
    """Open letters by kind and reason, the most frequent first; `group` is a short name of the two."""
    with db.transaction() as connection:
        names = ("kind", "reason", "group", "letters", "first", "last")
        return [dict(zip(names, row, strict=True)) for row in connection.exec_driver_sql(SQL["reasons"])]


def open_letters(connection: Connection, most: int = 10_000) -> int:
    """How many are open; counts no further than `most`, so it costs little however many there are."""
    return int(connection.exec_driver_sql(SQL["open_letters"], {"most": most}).scalar_one())


def _storable(letters: list[dict[str, Any]]) -> str:
    """JSON that PostgreSQL takes: no NUL and no lone half of a surrogate pair, which foreign headers may hold."""
    whole = json.dumps(letters, ensure_ascii=False).encode("utf-8", "replace").decode()
    return whole.replace("\\u0000", "\\ufffd")


def shortened(text: Any, most: int) -> Any:
    """A text of at most so many characters, which says when it was cut; anything else as it is."""
    if not isinstance(text, str) or len(text) <= most:
        return text
    note = f"… (cut, of {len(text)} characters)"
    return text[: most - len(note)] + note


def _plain(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers that are a text, a number or a truth, the first ones; JSON knows no infinity."""
    named = {str(name)[:MOST_NAME]: value for name, value in headers.items() if isinstance(value, (str, int, float))}
    named.pop(CUT, None)
    return {name: _finite(shortened(value, MOST_HEADER)) for name, value in islice(named.items(), MOST_HEADERS)}


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text(body: bytes | str, most: int) -> tuple[str, str, bool]:
    """What is kept of a body, its encoding, and whether that is all of it."""
    if isinstance(body, str):
        return body[:most], "utf-8", len(body) <= most
    part = body[: 4 * most]  # a character has at most four bytes
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(part, len(part) == len(body))
        return text[:most], "utf-8", len(text) <= most and len(part) == len(body)
    except UnicodeDecodeError:
        return base64.b64encode(body[: most // 2]).decode(), "base64", len(body) <= most // 2
