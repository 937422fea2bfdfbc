"""Single rows of the catalog: read, create, change, delete. A change that changes nothing writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg2.errors
from sqlalchemy import Connection, MetaData, Select, Table, and_, delete, func, or_, select, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from backend.app.catalog.models import City, Company, Product
from backend.app.errors import Conflict, NotFound, Unprocessable
from events.sql_files import statements

CITIES: Final[Table] = City.__table__  # type: ignore[assignment]
COMPANIES: Final[Table] = Company.__table__  # type: ignore[assignment]
PRODUCTS: Final[Table] = Product.__table__  # type: ignore[assignment]
_views = MetaData()
CITY_ROWS: Final = CITIES.to_metadata(_views, name="catalog_cities")  # as the definition has them, for reading
COMPANY_ROWS: Final = COMPANIES.to_metadata(_views, name="catalog_companies")
PRODUCT_ROWS: Final = PRODUCTS.to_metadata(_views, name="catalog_products")
READABLE: Final = {CITIES.name: CITY_ROWS, COMPANIES.name: COMPANY_ROWS, PRODUCTS.name: PRODUCT_ROWS}
NOUNS: Final = {CITIES.name: "city", COMPANIES.name: "company", PRODUCTS.name: "product"}
PARENTS: Final = {COMPANIES.name: "city_id", PRODUCTS.name: "company_id"}
ROOM: Final = 2**20  # ids that a sequence finds free above the one that it is set to
TRIES: Final = 5  # of an insert whose id is taken
SQL: Final = statements(Path(__file__).with_name("rows.sql"))
Row = Mapping[str, Any]


class UnknownParent(Unprocessable):
    """The row's parent is not there."""

    def __init__(self, field: str, value: Any) -> None:
        super().__init__(f"{field}: there is no {field.removesuffix('_id')} {value}")
        self.field = field


def find(connection: Connection, table: Table, row_id: int) -> Row:
    """One row; raises NotFound."""
    rows = READABLE[table.name]
    found = connection.execute(select(rows).where(rows.c.id == row_id)).mappings().first()
    if found is None:
        raise NotFound(f"there is no {NOUNS[table.name]} {row_id}")
    return dict(found)


def listed(
    connection: Connection,
    table: Table,
    filters: Sequence[Any],
    after: int | None,
    limit: int,
    parts: Sequence[Any] = (),
) -> list[Row]:
    """Rows in the order of their ids, above `after`, one more than `limit` when there are more; `table` is readable.

    `parts`: conditions of which each row meets exactly one. An index that begins with what they ask has each part in
    the order of ids, though not all of them together; so a page of each is read.
    """
    return [dict(row) for row in connection.execute(listing(table, filters, after, limit, parts)).mappings()]


def listing(
    table: Table, filters: Sequence[Any], after: int | None, limit: int, parts: Sequence[Any] = ()
) -> Select[Any]:
    """The statement of `listed`."""
    if parts:
        pages = [select(listing(table, [*filters, part], after, limit).subquery()) for part in parts]
        rows = union_all(*pages).subquery()
        return select(rows).order_by(rows.c.id).limit(limit + 1)
    conditions = [*filters] if after is None else [*filters, table.c.id > after]
    return select(table).where(and_(True, *conditions)).order_by(table.c.id).limit(limit + 1)


def create(connection: Connection, table: Table, values: Row) -> Row:
    """Insert a row; raises Conflict for an external id that is taken, UnknownParent."""
    statement = insert(table).values(**values).on_conflict_do_nothing(index_elements=["id"]).returning(table)
    if _is_at_its_end(connection, table):
        catch_up(connection, table)
    for _ in range(TRIES):
        try:
            created = connection.execute(statement).mappings().first()
        except IntegrityError as failure:
            raise _explained(failure, table, values) from failure
        if created is not None:
            return dict(created)
        catch_up(connection, table)
    raise Conflict(f"the ids that follow are taken: no {NOUNS[table.name]} was created")


def catch_up(connection: Connection, table: Table) -> None:
    """Set the table's sequence to the largest id that has room above it: rows inserted with an id of their own do not
    move it, and one at the end of bigint must not take it there."""
    connection.exec_driver_sql(SQL["catch_up"].format(table=table.name), {"room": ROOM})


def _is_at_its_end(connection: Connection, table: Table) -> bool:
    sql = SQL["is_at_its_end"].format(table=table.name)
    return bool(connection.exec_driver_sql(sql, {"room": ROOM}).scalar_one())


def change(connection: Connection, table: Table, row_id: int, values: Row) -> Row:
    """Set these columns; raises NotFound, Conflict, UnknownParent."""
    if not values:
        return find(connection, table, row_id)
    differs = or_(*(table.c[name].is_distinct_from(value) for name, value in values.items()))
    touched = {"updated_at": _now_or_later(table.c.updated_at)} if "updated_at" in table.c else {}
    statement = update(table).where(table.c.id == row_id, differs).values(**values, **touched).returning(table)
    try:
        changed = connection.execute(statement).mappings().first()
    except IntegrityError as failure:
        raise _explained(failure, table, values) from failure
    return dict(changed) if changed is not None else find(connection, table, row_id)


def _now_or_later(before: Any) -> Any:
    """The time under the row's lock; it never goes back, as the begin of a transaction that waited would."""
    return func.greatest(func.clock_timestamp(), before + timedelta(microseconds=1))


def remove(connection: Connection, table: Table, row_id: int) -> None:
    """Delete a row; what hangs on it follows the foreign keys' rules. Raises NotFound."""
    if not connection.execute(delete(table).where(table.c.id == row_id)).rowcount:
        raise NotFound(f"there is no {NOUNS[table.name]} {row_id}")


def _explained(failure: IntegrityError, table: Table, values: Row) -> Exception:
    if isinstance(failure.orig, psycopg2.errors.UniqueViolation):
        return Conflict(f"external_id {values.get('external_id')!r} belongs to another {NOUNS[table.name]}")
    if isinstance(failure.orig, psycopg2.errors.ForeignKeyViolation):
        field = PARENTS[table.name]
        return UnknownParent(field, values.get(field))
    return failure
