"""The observer's tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Double, Identity, Index, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from backend.app.catalog.models import Base, Instant


class Observation(Base):
    """The pipeline over a few seconds."""

    __tablename__ = "observations"

    at: Mapped[datetime] = mapped_column(Instant, primary_key=True, server_default=func.clock_timestamp())
    seconds: Mapped[float] = mapped_column(Double)  # since the observation before
    captured: Mapped[int] = mapped_column(BigInteger)  # events that writers put into the outbox
    published: Mapped[int] = mapped_column(BigInteger)  # that left it
    applied: Mapped[int] = mapped_column(BigInteger)  # that a patch has followed
    patched: Mapped[int] = mapped_column(BigInteger)  # mapping rows that those patches changed
    outbox_rows: Mapped[int | None] = mapped_column(BigInteger)
    outbox_seconds: Mapped[float | None] = mapped_column(Double)  # age of its oldest row
    queue_ready: Mapped[int | None] = mapped_column(BigInteger)  # messages; None: the broker did not answer
    queue_held: Mapped[int | None] = mapped_column(BigInteger)
    latency: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))  # events by commit-to-cache time, see latency.BOUNDS
    canary_ms: Mapped[float | None] = mapped_column(Double)  # the slowest canary; None: none arrived


class Canary(Base):
    """A row whose changes are sent all the way, to see how long they take."""

    __tablename__ = "canaries"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)  # of the last flight
    sent_at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())


class CachedCanary(Base):
    """Its copy, which the patch writes."""

    __tablename__ = "canary_cache"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
    arrived_at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())


class AuditMinute(Base):
    """What the auditor compared in one minute."""

    __tablename__ = "audit_minutes"

    minute: Mapped[datetime] = mapped_column(Instant, primary_key=True)
    cache: Mapped[str] = mapped_column(Text, primary_key=True)  # products, companies, counts, active
    checked: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    wrong: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # still wrong after the grace
    round_seconds: Mapped[float | None] = mapped_column(Double)  # longest of the rounds that ended in this minute
    round_rows: Mapped[int | None] = mapped_column(BigInteger)  # compared in the last of them


class CountLook(Base):
    """An instant at which the counts of all cities were looked at."""

    __tablename__ = "count_looks"

    at: Mapped[datetime] = mapped_column(Instant, primary_key=True, server_default=func.clock_timestamp())


class CityHour(Base):
    """Counts of a city at the first look at which they were so; NULL: the city has left."""

    __tablename__ = "city_hours"
    __table_args__ = (Index("city_hours_at_idx", "at"),)

    city_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(Instant, primary_key=True)
    products_count: Mapped[int | None] = mapped_column(BigInteger)
    services_count: Mapped[int | None] = mapped_column(BigInteger)
    companies_count: Mapped[int | None] = mapped_column(BigInteger)


class AuditFinding(Base):
    """A cached row that was wrong, not merely late."""

    __tablename__ = "audit_findings"
    __table_args__ = (
        Index("audit_findings_found_at_idx", "found_at"),
        Index("audit_findings_open_idx", "cache", "key", postgresql_where=text("repaired_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    found_at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())
    cache: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)  # missing, extra, different
    cached: Mapped[Any | None] = mapped_column(JSONB)
    wanted: Mapped[Any | None] = mapped_column(JSONB)
    last_patch: Mapped[int | None] = mapped_column(BigInteger)
    repaired_at: Mapped[datetime | None] = mapped_column(Instant)  # None: still wrong


class PassedTableRow(Base):
    """A table or partition into which somebody wrote past capture, and how many cached rows were found wrong by it."""

    __tablename__ = "passed_tables"

    found_at: Mapped[datetime] = mapped_column(Instant, primary_key=True, server_default=func.clock_timestamp())
    table_name: Mapped[str] = mapped_column(Text, primary_key=True)
    rows: Mapped[int] = mapped_column(BigInteger)
