"""A definition to start from: names, foreign keys and types tell where cities, companies and products may be.

It is a guess, said as such in the file; nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backend.app import db
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
NAMES: Final = {
    "city": r"^(cit(y|ies)|towns?|locations?|places?|settlements?)$",
    "company": r"(compan|seller|shop|vendor|merchant|store|supplier|organi[sz]ation)",
    "product": r"(product|goods?$|item|offer|listing|service)",
}
LABELS: Final = ("name", "title", "label")
SHOWN: Final = ("is_active", "active", "enabled", "is_enabled", "visible", "is_visible", "is_published", "published")
HIDDEN: Final = ("is_hidden", "hidden", "is_deleted", "deleted", "is_archived", "archived")
GONE: Final = ("deleted_at", "archived_at")


@dataclass(frozen=True)
class Table:
    """One of their tables."""

    oid: int
    name: str
    bare: str
    rows: int
    columns: Mapping[str, str]  # types by name
    key: str | None

    @property
    def label(self) -> str:
        """The column that names a row."""
        return next((name for name in LABELS if name in self.columns), self.key or "id")

    @property
    def condition(self) -> str:
        """Which rows count, by the columns in which people say so; empty: all."""
        flags = {name for name, kind in self.columns.items() if kind == "boolean"}
        parts = [name for name in SHOWN if name in flags] + [f"NOT {name}" for name in HIDDEN if name in flags]
        return " AND ".join(parts + [f"{name} IS NULL" for name in GONE if name in self.columns])


References = Mapping[tuple[int, int], str]  # (from, to) → column


def discover() -> str:
    """A commented definition. Raises DatabaseAway."""
    with db.transaction() as connection:
        tables = [Table(*row) for row in connection.exec_driver_sql(SQL["tables"])]
        found = connection.exec_driver_sql(SQL["references"]).all()
    references = {(source, target): column for source, target, column in reversed(found)}
    return "\n".join(_lines(tables, references)) + "\n"


def _lines(tables: Sequence[Table], references: References) -> Iterator[str]:
    city = _best(tables, "city", references, None)
    company = _best(tables, "company", references, city)
    product = _best(tables, "product", references, company)
    yield "# A guess from names, foreign keys and types: look at each line, then run 'citycache adopt FILE'."
    yield 'schema = "citycache"'
    yield from _source("city", city, "exists", {})
    yield from _levels(city, tables, references)
    yield from _source("company", company, "active", {"city": _link(company, city, references)})
    yield from _source("product", product, "active", {"company": _link(product, company, references)})


def _best(tables: Sequence[Table], noun: str, references: References, parent: Table | None) -> Table | None:
    """Of those whose name fits the one that points at the parent, then the largest."""
    fitting = [table for table in tables if re.search(NAMES[noun], table.bare.lower()) and table.key]
    return max(
        (table for table in fitting if table is not parent),
        key=lambda table: ((table.oid, parent.oid) in references if parent else False, table.rows),
        default=None,
    )


def _link(table: Table | None, parent: Table | None, references: References) -> str:
    return references.get((table.oid, parent.oid), "") if table and parent else ""


def _source(noun: str, table: Table | None, condition: str, links: Mapping[str, str]) -> Iterator[str]:
    yield f"\n[{noun}]"
    if table is None:
        yield f"# No table looks like one of {noun} rows: name it yourself."
        return
    yield f"# about {table.rows:,} rows; columns: {', '.join(table.columns)}"
    yield from _keys({"table": table.name, "id": table.key, "name": table.label})
    for key, column in links.items():
        yield f'{key} = "{column}"' if column else f'# {key} = ""    # no foreign key says so'
    yield from _keys({condition: table.condition} if table.condition else {})
    if noun == "product":
        yield "# kind = \"CASE … WHEN … THEN 'product' WHEN … THEN 'service' END\"    # without it all are products"


def _levels(city: Table | None, tables: Sequence[Table], references: References) -> Iterator[str]:
    """Up along foreign keys, from a city to what it belongs to; each table once."""
    by_oid = {table.oid: table for table in tables}
    below, seen = city, {city.oid if city else 0}
    while below is not None:
        ways = [(to, column) for (source, to), column in references.items() if source == below.oid and to not in seen]
        # the nearest level is the one from which the others can be reached as well
        ways.sort(key=lambda way: -sum(1 for (source, _) in references if source == way[0]))
        if not ways:
            return
        oid, column = ways[0]
        below = by_oid.get(oid)
        seen.add(oid)
        if below is not None and below.key:
            yield "\n[[city.level]]"
            name = re.sub(r"ies$", "y", below.bare).removesuffix("s")
            yield from _keys(
                {"name": name, "table": below.name, "id": below.key, "label": below.label, "parent": column}
            )


def _keys(values: Mapping[str, Any]) -> Iterator[str]:
    return (f'{key} = "{value}"' for key, value in values.items())
