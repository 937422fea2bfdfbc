"""Which definition this schema was adopted with."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from backend.app.catalog.models import Base, Instant


class AppliedDefinition(Base):
    """The definition that triggers and views follow; one row, none for the built-in catalog."""

    __tablename__ = "applied_definition"
    __table_args__ = (CheckConstraint("singleton", name="applied_definition_singleton_check"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    definition: Mapped[str] = mapped_column(Text)  # the file's text
    digest: Mapped[str] = mapped_column(Text)  # of what the file says
    began_at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())
    applied_at: Mapped[datetime | None] = mapped_column(Instant)  # None: it was not brought to its end
    cities_noted_since: Mapped[datetime | None] = mapped_column(Instant)  # holds if it is not before `began_at`
    levels_noted_since: Mapped[datetime | None] = mapped_column(Instant)
