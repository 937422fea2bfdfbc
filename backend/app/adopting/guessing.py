"""Which tables of a database may be cities, companies and products: their names, keys, and what points at what.

Foreign keys say it; where there are none, a column called `vendor_id` points at the one table of vendors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Final

from backend.app.catalog.definition import NOUNS, Noun
from backend.app.catalog.resolved import KEY_TYPES

NAMES: Final[Mapping[Noun, Sequence[str]]] = {  # the surest first
    "city": (
        "city", "town", "settlement", "municipality", "locality", "location", "place", "ville", "ciudad", "cidade",
        "stadt", "ort", "gorod", "город",
    ),
    "company": (
        "company", "seller", "shop", "vendor", "merchant", "store", "supplier", "organization", "organisation", "firm",
        "business", "dealer", "hotel", "restaurant", "venue", "agency", "provider", "partner", "магазин",
        "продав", "компани", "account", "user",
    ),
    "product": (
        "product", "good", "item", "offer", "listing", "service", "ad", "advert", "advertisement", "announcement",
        "article", "room", "vacancy", "lot", "товар", "объявлени",
    ),
}  # fmt: skip
SURE, HINTED, NESTED = 3.0, 0.7, 0.5  # the last word of a name, another one, a part of one
POINTED, BETWEEN = 2.0, 1.0  # a column that points at the other table, a table that stands between
LABELLED: Final = 1.0  # has a name to show
UNFIT: Final = -1.5  # has no key that can be used
MOST: Final = 12  # tables of a noun that are looked at together
LABELS: Final = ("name", "title", "label", "caption")
PLACES: Final = frozenset(
    {"region", "state", "country", "district", "province", "county", "area", "oblast", "department", "republic"}
    | {"prefecture", "continent", "territory", "land", "регион", "область", "страна", "район"}
)
TEXTS: Final = ("text", "character varying", "citext", "character")
_WORD: Final = re.compile(r"[^\W\d_]+")
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class TableColumn:
    """One column of theirs."""

    name: str
    sql: str
    type: str
    is_unique: bool  # alone
    is_primary: bool  # alone or with others
    labels: Sequence[str]  # of an enum

    @property
    def is_key(self) -> bool:
        """Whether it is of a type that keys may have."""
        return self.type in KEY_TYPES


@dataclass(frozen=True)
class Table:
    """One of their tables."""

    oid: int
    schema: str
    bare: str
    sql: str
    at: str  # what stands before a column of its row
    rows: int
    columns: Sequence[TableColumn]

    @property
    def name(self) -> str:
        """As a definition names it."""
        return self.sql if "." in self.schema + self.bare else f"{self.schema}.{self.bare}"

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Of its name, each as one speaks of a single row."""
        return words(self.bare)

    @cached_property
    def key(self) -> TableColumn | None:
        """The column that names a row: an integer where there is one, whatever the primary key is."""

        def fitness(column: TableColumn) -> tuple[bool, ...]:
            alone = column.is_unique and column.is_primary
            return column.is_key, alone, column.is_unique, column.name.lower() == "id", column.is_primary

        found = [column for column in self.columns if column.is_unique or column.is_primary or column.name == "id"]
        return max(found, key=fitness, default=None)

    @cached_property
    def label(self) -> TableColumn | None:
        """What a row is called."""
        texts = [column for column in self.columns if column.type.rpartition(".")[2] in TEXTS]
        exact = (column for name in LABELS for column in texts if column.name.lower() == name)
        part = (column for column in texts if set(words(column.name)) & set(LABELS))
        return next(exact, None) or next(part, None)

    def named(self, name: str) -> TableColumn:
        """The column of this name."""
        return next(column for column in self.columns if column.name == name)


def words(name: str) -> tuple[str, ...]:
    """A name's words in small letters, nouns of many as of one."""
    return tuple(map(_single, _WORD.findall(_HUMP.sub("_", name).lower())))


def _single(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word


@dataclass(frozen=True)
class Link:
    """How rows of one table point at those of another."""

    column: str
    is_told: bool  # by a foreign key


Links = Mapping[tuple[int, int], Link]  # by the oids of both tables


def links(tables: Sequence[Table], references: Sequence[Any]) -> Links:
    """All of them, those of foreign keys first."""
    found: dict[tuple[int, int], Link] = {}
    for source, target, column in references:
        found.setdefault((source, target), Link(column, is_told=True))
    told = {(source, column) for source, _, column in references}
    endings: dict[tuple[str, ...], list[Table]] = {}
    for table in tables:
        for start in range(len(table.words)):
            endings.setdefault(table.words[start:], []).append(table)
    for table in tables:
        for column in table.columns:
            if column.is_key and (table.oid, column.name) not in told:
                target = _meant(table, column, endings)
                if target:
                    found.setdefault((table.oid, target.oid), Link(column.name, is_told=False))
    return found


def _meant(table: Table, column: TableColumn, endings: Mapping[tuple[str, ...], list[Table]]) -> Table | None:
    """The table that a column's name names: `vendor_id` the vendors, whatever stands before that word."""
    stem = words(column.name)
    stem = stem[:-1] if len(stem) > 1 and stem[-1] == "id" else stem
    fitting = [other for other in endings.get(stem, ()) if other is not table]
    fitting.sort(key=lambda other: (other.schema != table.schema, len(other.words)))
    return fitting[0] if fitting else None


def between(source: Table, target: Table, tables: Sequence[Table], links_: Links) -> Table | None:
    """The table through which rows of one reach the other: one that the source points at, or one that links both."""
    others = (table for table in tables if table.key and table.oid not in (source.oid, target.oid))
    near = [table for table in others if (table.oid, target.oid) in links_]
    pointed = (table for table in near if (source.oid, table.oid) in links_)
    linking = (table for table in near if (table.oid, source.oid) in links_)
    return next(pointed, None) or next(linking, None)


def chosen(tables: Sequence[Table], links_: Links) -> Mapping[Noun, Table | None]:
    """The tables that fit their nouns and each other best."""
    cities, companies, products = (list(_candidates(tables, noun)) or [(0.0, None)] for noun in NOUNS)
    joined = {
        (source.oid, target.oid): _joined(source, target, tables, links_)
        for sources, targets in ((companies, cities), (products, companies))
        for (_, source), (_, target) in product(sources, targets)
        if source and target
    }

    def fitness(three: Sequence[tuple[float, Table | None]]) -> tuple[float, int]:
        city, company, item = (table.oid if table else None for _, table in three)
        ways = joined.get((company, city), 0) + joined.get((item, company), 0)  # type: ignore[arg-type]
        return sum(fit for fit, _ in three) + ways, sum(table.rows for _, table in three if table)

    apart = (three for three in product(cities, companies, products) if _are_apart(three))
    best = max(apart, key=fitness, default=((0.0, None),) * len(NOUNS))
    return {noun: table for noun, (_, table) in zip(NOUNS, best, strict=True)}


def _are_apart(three: Sequence[tuple[float, Table | None]]) -> bool:
    found = [table.oid for _, table in three if table]
    return len(set(found)) == len(found)


def _candidates(tables: Sequence[Table], noun: Noun) -> Iterator[tuple[float, Table | None]]:
    fitting = [(fit + _usable(table), table) for table in tables if (fit := _fit(table, noun))]
    fitting.sort(key=lambda each: (-each[0], -each[1].rows))
    yield from fitting[:MOST]


def _fit(table: Table, noun: Noun) -> float:
    """How well a name fits; 0: not at all."""
    names = NAMES[noun]
    if table.words and table.words[-1] in names:
        return SURE - names.index(table.words[-1]) / len(names)
    if set(table.words) & set(names):
        return HINTED
    return NESTED if any(name in table.bare.lower() for name in names if len(name) > 3) else 0


def _usable(table: Table) -> float:
    return (LABELLED if table.label else 0) + (0 if table.key and table.key.is_key else UNFIT)


def _joined(source: Table, target: Table, tables: Sequence[Table], links_: Links) -> float:
    if (source.oid, target.oid) in links_:
        return POINTED
    return BETWEEN if between(source, target, tables, links_) else 0
