"""The cache tables and what explains them. No foreign keys into the catalog: a cascade would bypass the counts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Identity, Index, Table, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from backend.app.catalog.models import Base, Id, Instant


class ProductCityMapping(Base):
    """A product or service that can be bought in a city."""

    __tablename__ = "product_city_mapping"
    __table_args__ = (
        Index("product_city_mapping_city_id_idx", "city_id", "kind", "product_id"),
        Index("product_city_mapping_company_id_idx", "company_id", "product_id"),
    )

    product_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    city_id: Mapped[int] = mapped_column(Id)
    company_id: Mapped[int] = mapped_column(Id)
    kind: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    patch_id: Mapped[int | None] = mapped_column(Id)  # the patch that wrote this row last


class CompanyCityMapping(Base):
    """A company that is in a city."""

    __tablename__ = "company_city_mapping"
    __table_args__ = (Index("company_city_mapping_city_id_idx", "city_id", "company_id"),)

    company_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    city_id: Mapped[int] = mapped_column(Id)
    created_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    patch_id: Mapped[int | None] = mapped_column(Id)


class CityCounts(Base):
    """How much each city has; every city of the catalog has a row, with zeros where there is nothing."""

    __tablename__ = "city_counts"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)  # hot rows: room for HOT updates

    city_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    products_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    services_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    companies_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    updated_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    patch_ids: Mapped[list[int]] = mapped_column(
        ARRAY(BigInteger), server_default=text("'{}'")
    )  # the last ten that moved them, newest first


class ActiveCitiesCache(Base):
    """Which cities have anything at all; two rows, 'products' and 'companies'."""

    __tablename__ = "active_cities_cache"
    __table_args__ = (
        CheckConstraint("cache_type IN ('products', 'companies')", name="active_cities_cache_type_check"),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    cache_type: Mapped[str] = mapped_column(Text, primary_key=True)
    active_city_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=text("'{}'"))
    total_cities: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    total_companies: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    total_products: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_updated: Mapped[datetime] = mapped_column(Instant, server_default=func.now())


class Patch(Base):
    """One transaction that changed mappings: who asked for it, when, and for which keys. Explains cached rows."""

    __tablename__ = "patches"
    __table_args__ = (Index("patches_patched_at_idx", "patched_at"),)

    id: Mapped[int] = mapped_column(Id, Identity(), primary_key=True)
    patched_at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())
    task: Mapped[str] = mapped_column(Text)
    task_id: Mapped[UUID | None] = mapped_column(Uuid)
    subjects: Mapped[list[str]] = mapped_column(
        ARRAY(Text), server_default=text("'{}'")
    )  # changed ones with an event or a patch before
    event_ids: Mapped[list[str | None]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))  # beside `subjects`
    previous_ids: Mapped[list[int | None]] = mapped_column(
        ARRAY(BigInteger), server_default=text("'{}'")
    )  # beside `subjects`: the patch that each had before
    traceparents: Mapped[list[str] | None] = mapped_column(ARRAY(Text))  # of the batch's traced events


class RemovedKey(Base):
    """The patch that took a key out of its mapping last; a row that is not there cannot say it itself."""

    __tablename__ = "removed_keys"

    noun: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    patch_id: Mapped[int] = mapped_column(Id)
    earlier_ids: Mapped[list[int]] = mapped_column(
        ARRAY(BigInteger), server_default=text("'{}'")
    )  # of the four times before, newest first


class JudgementRow(Base):
    """While it is there, patches write what they look at into `looks`. Unlogged, both: a crash ends it."""

    __tablename__ = "judgements"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, server_default=text("gen_random_uuid()"))
    noun: Mapped[str] = mapped_column(Text)  # of the keys that are judged
    ends_at: Mapped[datetime] = mapped_column(Instant)


looks: Final = Table(
    "looks",
    Base.metadata,
    Column("judgement", Uuid, nullable=False),
    Column("id", BigInteger, nullable=False),  # of a key that a patch has looked at
    prefixes=["UNLOGGED"],
)


class Xid8(UserDefinedType[str]):
    """The number of a transaction, of which no two are the same."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Its name in SQL."""
        return "xid8"


class CityChange(Base):
    """A transaction that changed cities, their counts or active cities; triggers write it. Unlogged: whoever keeps what
    it read loses its session in a crash of the server, and begins anew."""

    __tablename__ = "city_changes"
    __table_args__ = (
        Index("city_changes_of_places_idx", "xid", postgresql_where=text("NOT of_counts")),
        {"prefixes": ["UNLOGGED"]},
    )

    xid: Mapped[str] = mapped_column(Xid8, primary_key=True)
    of_counts: Mapped[bool] = mapped_column(
        primary_key=True, server_default=text("false")
    )  # and of active cities; one that changed cities or levels as well has two rows
    all_ended_below: Mapped[str] = mapped_column(
        Xid8, server_default=text("pg_snapshot_xmin(pg_current_snapshot())")
    )  # when this was written; retention goes by it
    written_at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())


class WidePatch(Base):
    """A patch too wide for one batch: all products of a company."""

    __tablename__ = "wide_patches"

    company_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))  # raised by each new request
    after_product_id: Mapped[int] = mapped_column(
        Id, server_default=text("-9223372036854775808")
    )  # how far the patch has come
    requested_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    event_id: Mapped[str | None] = mapped_column(Text)
    of_company: Mapped[bool] = mapped_column(
        server_default=text("false")
    )  # false: a release wrote it that knows no other


class WidePatchOfEverything(Base):
    """All tables are to be reconciled, after a TRUNCATE; one row at most."""

    __tablename__ = "wide_patch_of_everything"
    __table_args__ = (CheckConstraint("singleton", name="wide_patch_of_everything_singleton_check"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    generation: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))  # raised by each new request
    requested_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())


class WatchedChange(Base):
    """A row of a watched table that has changed, with the columns that the definition uses or publishes."""

    __tablename__ = "watched_changes"

    id: Mapped[int] = mapped_column(Id, Identity(always=True), primary_key=True)
    table_name: Mapped[str] = mapped_column(Text)
    before: Mapped[Any | None] = mapped_column(JSON)
    after: Mapped[Any | None] = mapped_column(JSON)
    changed_at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())


class WideWatch(Base):
    """A set of keys that a watched change may have moved, too large for a batch."""

    __tablename__ = "wide_watches"

    change_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # of the watch
    generation: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))  # raised by each new request
    after_id: Mapped[int | None] = mapped_column(Id)  # how far the patch has come
    requested_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    event_id: Mapped[str | None] = mapped_column(Text)
