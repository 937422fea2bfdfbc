"""The audit log: who did what through the API, when, with which result; also who was refused. Never a key or a body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Identity, Index, Integer, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from backend.app import db
from backend.app.catalog.models import Base, Instant
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))


class AuditRow(Base):
    """The table."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_at_idx", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())
    name: Mapped[str | None] = mapped_column(Text)
    role: Mapped[str | None] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(Text)
    method: Mapped[str] = mapped_column(Text)
    path: Mapped[str] = mapped_column(Text)
    status: Mapped[int] = mapped_column(Integer)
    detail: Mapped[str | None] = mapped_column(Text)


@dataclass(frozen=True)
class AuditEntry:
    """One guarded request and how it ended."""

    name: str | None  # of the key; None: no known key was shown
    role: str | None
    address: str | None  # where it came from
    method: str
    path: str  # without the query
    status: int
    detail: str | None = None  # why it was refused, or what it made
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def write(entries: Sequence[AuditEntry]) -> None:
    """Keep entries, in one transaction. Raises DatabaseAway."""
    rows = json.dumps([asdict(entry) | {"at": entry.at.isoformat()} for entry in entries])
    with db.transaction() as connection:
        connection.exec_driver_sql(SQL["write"], {"entries": rows})


def listed(limit: int, before: int | None = None, name: str | None = None) -> list[dict[str, Any]]:
    """Entries, newest first, below the id `before`. Raises DatabaseAway."""
    with db.transaction() as connection:
        found = connection.exec_driver_sql(SQL["listed"], {"limit": limit, "before": before, "name": name})
        return [dict(row) for row in found.mappings()]


def maker(made: str, at: datetime) -> str | None:
    """Name of the key by which this path was made at about this time; None: nobody knows. Raises DatabaseAway."""
    with db.transaction() as connection:
        found: str | None = connection.exec_driver_sql(SQL["maker"], {"made": made, "at": at}).scalar()
        return found
