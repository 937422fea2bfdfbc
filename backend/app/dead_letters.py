"""Dead letters: messages that cannot be read and keys whose patch fails again and again.

They are rows of a table, because people list, search and send them again. The broker's queue of the same name is
only the way in for messages that the broker itself gave up on; the worker moves those here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
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
from backend.app.catalog.models import Base, Instant
from events.contract import Hint
from events.errors import Malformed, UnknownType
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
KINDS: Final = ("unreadable", "unknown_type", "failed", "undeliverable")
Kind = Literal["unreadable", "unknown_type", "failed", "undeliverable"]
MOST_PAYLOAD: Final = 256 * 1024  # characters kept of a payload


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


def unreadable(failure: Malformed, body: bytes | str, content_type: str, headers: Mapping[str, Any]) -> DeadLetter:
    """A message, or the part of it, that is not an event of the contract."""
    kind: Kind = "unknown_type" if isinstance(failure, UnknownType) else "unreadable"
    payload, encoding = _text(body)
    simple = (str, int, float, bool)
    plain = {str(name): value for name, value in headers.items() if isinstance(value, simple)}
    return DeadLetter(
        kind, str(failure), content_type=content_type, headers=plain, payload=payload, payload_encoding=encoding
    )


def failed(hint: Hint, failure: Exception, attempts: int) -> DeadLetter:
    """A key whose patch fails by itself."""
    subject = hint.noun if hint.id is None else f"{hint.noun}/{hint.id}"
    sentence = str(getattr(failure, "orig", None) or failure).strip().splitlines()
    return DeadLetter(
        "failed",
        f"the patch of {subject} fails: {sentence[0] if sentence else type(failure).__name__}",
        subject=subject,
        event_id=hint.event_id,
        payload=json.dumps({"id": hint.event_id, "subject": subject, "time": hint.time}),
        attempts=attempts,
    )


def bury(connection: Connection, letters: Sequence[DeadLetter], task_id: str | None) -> None:
    """Keep dead letters, in the caller's transaction."""
    if letters:
        parameters = {"letters": _storable([asdict(letter) for letter in letters]), "task_id": task_id}
        connection.exec_driver_sql(SQL["bury"], parameters)


def close_patched(connection: Connection, hints: Sequence[Hint], task_id: str) -> None:
    """Close the letters of keys that have just been patched, in the same transaction."""
    if connection.exec_driver_sql(SQL["any_open"]).scalar_one():
        subjects = list({f"{hint.noun}/{hint.id}" for hint in hints})
        connection.exec_driver_sql(SQL["close_patched"], {"subjects": subjects, "task_id": task_id})


def listed(
    state: str = "open", kind: str | None = None, reason: str | None = None, limit: int = 50, before: int | None = None
) -> list[dict[str, Any]]:
    """Letters, newest first; `state` is open, closed or all."""
    parameters = {"state": state, "kind": kind, "reason": reason, "limit": limit, "before": before}
    with db.transaction() as connection:
        return [dict(row) for row in connection.exec_driver_sql(SQL["listed"], parameters).mappings()]


def reasons() -> list[dict[str, Any]]:
    """Open letters by kind and reason, the most frequent first."""
    with db.transaction() as connection:
        names = ("kind", "reason", "letters", "first", "last")
        return [dict(zip(names, row, strict=True)) for row in connection.exec_driver_sql(SQL["reasons"])]


def prune(days: float, rows: int = 20_000) -> int:
    """Delete letters closed longer ago than this."""
    with db.transaction() as connection:
        return connection.exec_driver_sql(SQL["prune"], {"days": days, "rows": rows}).rowcount


def _storable(letters: list[dict[str, Any]]) -> str:
    """JSON that PostgreSQL takes: no NUL and no lone half of a surrogate pair, which foreign headers may hold."""
    whole = json.dumps(letters, ensure_ascii=False).encode("utf-8", "replace").decode()
    return whole.replace("\\u0000", "\\ufffd")


def _text(body: bytes | str) -> tuple[str, str]:
    if isinstance(body, str):
        return body[:MOST_PAYLOAD], "utf-8"
    try:
        return body.decode()[:MOST_PAYLOAD], "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(body[: MOST_PAYLOAD // 2]).decode(), "base64"
