"""The tables of health."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from backend.app.catalog.models import Base, Instant


class IncidentRow(Base):
    """Something that is or was wrong, from when to when."""

    __tablename__ = "incidents"
    __table_args__ = (
        Index("incidents_open_idx", "kind", "subject", unique=True, postgresql_where=text("ended_at IS NULL")),
        Index("incidents_began_at_idx", "began_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)  # of health.kinds
    subject: Mapped[str] = mapped_column(Text, server_default=text("''"))  # which one, of several of a kind
    began_at: Mapped[datetime] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
    begin_told_at: Mapped[datetime | None] = mapped_column(Instant)  # when the webhook's other side took it
    end_told_at: Mapped[datetime | None] = mapped_column(Instant)
    values: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"))
