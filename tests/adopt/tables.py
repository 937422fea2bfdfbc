"""Tables as others make them, drawn at random: odd names, keys of any type, partitions of two levels, children."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

NAMES: Final = [
    "id", "Nr", "order", "user", "told", "fresh", "stale", "found", "new", "old", "tg_op", "image", "present", "absent",
    "name", "город", "a b", 'x"y', "p%s", "100%", "it's", "before", "after", "key", "changed", "type", "count", "_",
    "nth", "x" * 63, "a:b", "$1", "back\\slash", "{brace}", "select", "old_row", "new_row", "version", "city_id", "*",
    "dot.ted", "company", "product", "city", "Ä" * 31, "$body$", "old_rows", "new_rows", "change", "subject", "way",
    "catalog_cities", "event_outbox", "rows", "%(id)s", "NULL", "-- x", "/*", ";", "row_to_json",
]  # fmt: skip
SCHEMAS: Final = ["public", "shop", "Lager Süd", 'q"uote', "per%cent", "it's", "order", "dot.ted"]
DOMAIN: Final = "public.whole_number"
KEYS: Final = ["smallint", "integer", "bigint", DOMAIN]
OTHER_KEYS: Final = [*KEYS, "uuid", "text", "varchar(40)", "char(12)", "numeric(9, 2)"]
Value = Callable[[random.Random], str]


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text."""
    return "'" + text.replace("'", "''") + "'"


def key_value(kind: str, number: int) -> str:
    """The key of this number."""
    texts = {
        "uuid": f"00000000-0000-0000-0000-{number:012}",
        "text": f"k'{number}",
        "varchar(40)": f"ключ {number}",
        "char(12)": f"c {number}",
    }
    return f"{literal(texts.get(kind, str(number)))}::{kind}"


def one_of(*values: str) -> Value:
    """Any of these."""
    return lambda chance: chance.choice(values)


@dataclass
class Column:
    """One column of a table."""

    name: str
    type: str
    value: Value | None  # a random value as SQL writes it; None: the column is computed

    @property
    def sql(self) -> str:
        """Its name, quoted."""
        return quoted(self.name)


@dataclass
class Table:
    """One table; columns may be added until it is made."""

    schema: str
    name: str
    form: str  # one of FORMS
    key: Column
    columns: list[Column]
    most: int  # keys in use
    is_keyed: bool = True  # else rows of one key may repeat
    parts: list[str] = field(default_factory=list)  # partitions and children, as SQL names them

    @property
    def sql(self) -> str:
        """Schema and name, quoted."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def at(self) -> str:
        """What stands before a column of a row of it in an expression."""
        return f"{quoted(self.name)}."

    @property
    def id(self) -> str:
        """Its key's name, quoted."""
        return self.key.sql

    @property
    def plain(self) -> str:
        """As a definition names it."""
        return f"{self.schema}.{self.name}"

    @property
    def written(self) -> list[Column]:
        """Columns that take values."""
        return [column for column in self.columns if column.value]

    @property
    def is_unique(self) -> bool:
        """Whether an index holds the key unique."""
        return self.is_keyed and self.form in ("plain", "indexed", "hashed", "ranged")

    def add(self, column: Column) -> Column:
        """One more column; where it stands among the others is drawn when the table is made."""
        self.columns.append(column)
        return column

    def part(self, number: int) -> str:
        """The name of a partition or child, remembered."""
        self.parts.append(f"{quoted(self.schema)}.{quoted(f'{self.name[:20]} p{number}')}")
        return self.parts[-1]

    def makes(self, chance: random.Random) -> Iterator[str]:
        """Statements that make it."""
        chance.shuffle(self.columns)
        columns = ", ".join(f"{column.sql} {column.type}" for column in self.columns)
        primary = f", PRIMARY KEY ({self.id})" if self.is_keyed else ""
        yield from FORMS[self.form](self, columns, primary)


def _plain(table: Table, columns: str, primary: str) -> Iterator[str]:
    yield f"CREATE TABLE {table.sql} ({columns}{primary})"


def _indexed(table: Table, columns: str, primary: str) -> Iterator[str]:
    """Unique, without a primary key."""
    yield f"CREATE TABLE {table.sql} ({columns})"
    if primary:
        yield f"CREATE UNIQUE INDEX ON {table.sql} ({table.id})"


def _bare(table: Table, columns: str, primary: str) -> Iterator[str]:
    yield f"CREATE TABLE {table.sql} ({columns})"


def _hashed(table: Table, columns: str, primary: str) -> Iterator[str]:
    yield f"CREATE TABLE {table.sql} ({columns}{primary}) PARTITION BY HASH ({table.id})"
    for rest in range(3):
        bounds = f"FOR VALUES WITH (MODULUS 3, REMAINDER {rest})"
        yield f"CREATE TABLE {table.part(rest)} PARTITION OF {table.sql} {bounds}"


def _ranged(table: Table, columns: str, primary: str) -> Iterator[str]:
    """By ranges, one of which is hashed again."""
    middle = key_value(table.key.type, table.most // 2)
    yield f"CREATE TABLE {table.sql} ({columns}{primary}) PARTITION BY RANGE ({table.id})"
    low = table.part(0)
    bounds = f"FOR VALUES FROM (MINVALUE) TO ({middle})"
    yield f"CREATE TABLE {low} PARTITION OF {table.sql} {bounds} PARTITION BY HASH ({table.id})"
    for rest in range(2):
        yield f"CREATE TABLE {table.part(1 + rest)} PARTITION OF {low} FOR VALUES WITH (MODULUS 2, REMAINDER {rest})"
    yield f"CREATE TABLE {table.part(3)} PARTITION OF {table.sql} DEFAULT"


def _listed(table: Table, columns: str, primary: str) -> Iterator[str]:
    """By a column that is not the key: no index can say that keys are unique."""
    part = quoted("Teil §")
    yield f"CREATE TABLE {table.sql} ({columns}, {part} text DEFAULT 'a') PARTITION BY LIST ({part})"
    yield f"CREATE TABLE {table.part(0)} PARTITION OF {table.sql} FOR VALUES IN ('a', 'b')"
    yield f"CREATE TABLE {table.part(1)} PARTITION OF {table.sql} DEFAULT"
    table.columns.append(Column("Teil §", "text", one_of("'a'", "'b'", "'c'")))


def _inherited(table: Table, columns: str, primary: str) -> Iterator[str]:
    yield f"CREATE TABLE {table.sql} ({columns})"
    child = table.part(0)
    yield f"CREATE TABLE {child} (more text) INHERITS ({table.sql})"
    yield f"CREATE TABLE {table.part(1)} () INHERITS ({child})"


FORMS: Final = {
    "plain": _plain,
    "indexed": _indexed,
    "bare": _bare,
    "hashed": _hashed,
    "ranged": _ranged,
    "listed": _listed,
    "inherited": _inherited,
}
