"""The table of replays under way."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from backend.app.catalog.models import Base, Instant

_IDS = ARRAY(BigInteger)


class ReplayRow(Base):
    """Where one replay is."""

    __tablename__ = "replays"

    task_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    marker: Mapped[str] = mapped_column(Text)  # ends the reading
    next_offset: Mapped[int | None] = mapped_column(BigInteger)
    first_offset: Mapped[int | None] = mapped_column(BigInteger)
    last_offset: Mapped[int | None] = mapped_column(BigInteger)
    events: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    keys: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    rows_changed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    products: Mapped[list[int]] = mapped_column(_IDS, server_default=text("'{}'"))
    companies: Mapped[list[int]] = mapped_column(_IDS, server_default=text("'{}'"))
    cities: Mapped[list[int]] = mapped_column(_IDS, server_default=text("'{}'"))
    truncated: Mapped[bool] = mapped_column(server_default=text("false"))
    updated_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())


class ReplayKey(Base):
    """A key that a dry run has gathered, until the run has ended."""

    __tablename__ = "replay_keys"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("replays.task_id", ondelete="CASCADE"), primary_key=True)
    noun: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
