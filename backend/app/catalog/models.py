"""The source of all truth: cities, companies and their products or services."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Double, ForeignKey, Identity, Index, Text, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Metadata of every table; Alembic compares it with the database."""


Id = BigInteger()
Instant = DateTime(timezone=True)


def _by_name(table: str) -> Index:
    """Finds names by how they begin, in capitals or not."""
    return Index(f"{table}_name_idx", text("lower(left(name, 100)) text_pattern_ops"))


class City(Base):
    """A place where companies are."""

    __tablename__ = "cities"
    __table_args__ = (_by_name("cities"),)

    id: Mapped[int] = mapped_column(Id, Identity(), primary_key=True)
    external_id: Mapped[str | None] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)
    latitude: Mapped[float | None] = mapped_column(Double)
    longitude: Mapped[float | None] = mapped_column(Double)


class Company(Base):
    """A seller; without a city it is in no cache."""

    __tablename__ = "companies"
    __table_args__ = (Index("companies_city_id_idx", "city_id", "id"), _by_name("companies"))

    id: Mapped[int] = mapped_column(Id, Identity(), primary_key=True)
    external_id: Mapped[str | None] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)
    city_id: Mapped[int | None] = mapped_column(ForeignKey("cities.id", ondelete="SET NULL"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now(), onupdate=func.now())


class Product(Base):
    """What a company sells: a product (goods) or a service."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("kind IN ('product', 'service')", name="products_kind_check"),
        Index("products_company_id_idx", "company_id", "id"),
        Index("products_is_active_kind_idx", "is_active", "kind", "id"),
        _by_name("products"),
    )

    id: Mapped[int] = mapped_column(Id, Identity(), primary_key=True)
    external_id: Mapped[str | None] = mapped_column(Text, unique=True)
    company_id: Mapped[int] = mapped_column(ForeignKey("companies.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text, server_default=text("'product'"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now(), onupdate=func.now())
