"""Where cities, companies and products are: the definition file, read and checked as far as it goes.

From a definition, and from nothing else, come the truth, the capture triggers, the reading of names, the fan-out and
the checks. The built-in catalog is such a file, too. Values are SQL over the table's row; `resolved` tries them.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Final, Literal

from backend.app.errors import BadDefinition
from backend.app.settings import settings

BUILT_IN: Final = Path(__file__).with_name("builtin.toml")
PUBLIC: Final = "public"
EVERY_COLUMN: Final = "*"  # in `publish`: the whole row travels, and each change of it makes an event
Noun = Literal["city", "company", "product"]
NOUNS: Final[tuple[Noun, ...]] = ("city", "company", "product")

REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "city": ("table", "id", "name"),
    "company": ("table", "id", "name", "city"),
    "product": ("table", "id", "name", "company"),
    "city.level": ("name", "table", "id", "label", "parent"),
    "watch": ("table", "noun", "ids"),
}
OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {
    "city": ("latitude", "longitude", "exists", "external_id"),
    "company": ("active", "external_id", "created_at", "updated_at"),
    "product": ("kind", "active", "external_id", "created_at", "updated_at"),
    "city.level": (),
    "watch": (),
}
KEY: Final = ""  # in place of a type: the key's own
COLUMNS: Final[Mapping[Noun, tuple[tuple[str, str, str, str], ...]]] = {  # name, key of the file, type, without the key
    "city": (
        ("external_id", "external_id", "text", "NULL"),
        ("name", "name", "text", "NULL"),
        ("latitude", "latitude", "double precision", "NULL"),
        ("longitude", "longitude", "double precision", "NULL"),
    ),
    "company": (
        ("external_id", "external_id", "text", "NULL"),
        ("name", "name", "text", "NULL"),
        ("city_id", "city", KEY, "NULL"),
        ("is_active", "active", "boolean", "true"),
        ("created_at", "created_at", "timestamp with time zone", "NULL"),
        ("updated_at", "updated_at", "timestamp with time zone", "NULL"),
    ),
    "product": (
        ("external_id", "external_id", "text", "NULL"),
        ("company_id", "company", KEY, "NULL"),
        ("name", "name", "text", "NULL"),
        ("kind", "kind", "text", "'product'"),
        ("is_active", "active", "boolean", "true"),
        ("created_at", "created_at", "timestamp with time zone", "NULL"),
        ("updated_at", "updated_at", "timestamp with time zone", "NULL"),
    ),
}
WITH_LISTS: Final = ("city", "company", "product", "watch")  # may name columns to `publish`
LONGEST_NAME: Final = 63  # bytes of an identifier
LONGEST_TABLE: Final = 4 * LONGEST_NAME + 5  # characters of schema and table in quotes, if made of nothing but quotes
MOST_BYTES: Final = 128 * 1024  # of a file; whoever names another one by mistake learns it at once


@dataclass(frozen=True)
class Source:
    """Where the rows of one noun are."""

    noun: Noun
    table: str
    id: str
    values: Mapping[str, str]  # key of the file → SQL over the row
    publish: tuple[str, ...] = ()  # columns that travel although nothing here uses them


@dataclass(frozen=True)
class Level:
    """What a city belongs to: a region, a district, a country; from the nearest to the widest."""

    name: str
    table: str
    id: str
    label: str
    parent: str  # SQL over the row one level below


@dataclass(frozen=True)
class Watch:
    """A table whose change moves something although no row of the three sources changed."""

    table: str
    noun: Noun
    ids: str  # a query for the ids that may move; `changed` is the row, with its published columns
    publish: tuple[str, ...] = ()


@dataclass(frozen=True)
class Definition:
    """One catalog."""

    file: str
    text: str
    schema: str  # everything of ours lives here
    city: Source
    company: Source
    product: Source
    levels: tuple[Level, ...] = ()
    watches: tuple[Watch, ...] = ()

    @property
    def is_adopted(self) -> bool:
        """Whether the catalog belongs to another system, so that nothing here writes it."""
        return self.file != str(BUILT_IN)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Cities, companies, products."""
        return (self.city, self.company, self.product)

    @property
    def search_path(self) -> str:
        """Ours first, so that no table of theirs that has the same name is meant; theirs for what expressions name."""
        own = '"' + self.schema.replace('"', '""') + '"'
        return own if self.schema == PUBLIC else f"{own}, {PUBLIC}"

    @property
    def digest(self) -> str:
        """Changes with what the file says, not with its comments."""
        said = repr((self.schema, *self.sources, self.levels, self.watches))
        return hashlib.sha256(said.encode()).hexdigest()[:16]


@cache
def current() -> Definition:
    """The definition that CATALOG_FILE names, else the built-in one. Raises BadDefinition."""
    return load(Path(settings().catalog_file)) if settings().catalog_file else load(BUILT_IN)


def load(file: Path) -> Definition:
    """Read a definition. Raises BadDefinition with file, key and reason."""
    if file.exists() and not file.is_file():
        raise BadDefinition(str(file), "", "is no regular file")
    try:
        with file.open("rb") as opened:
            read = opened.read(MOST_BYTES + 1)
        if len(read) > MOST_BYTES:
            raise BadDefinition(str(file), "", f"is larger than {MOST_BYTES:,} bytes: no definition is")
        text = read.decode("utf-8-sig")
    except (OSError, ValueError) as failure:
        raise BadDefinition(str(file), "", str(failure)) from failure
    return parse(text, str(file))


def parse(text: str, file: str) -> Definition:
    """The same from the file's text."""
    try:
        found = tomllib.loads(text)
    except ValueError as failure:  # a TOMLDecodeError, or a number of more digits than Python reads
        raise BadDefinition(file, "", f"not TOML: {failure}") from failure
    except RecursionError as failure:
        raise BadDefinition(file, "", "is nested too deeply") from failure
    return _Reader(file, text).definition(found)


class _Reader:
    def __init__(self, file: str, text: str) -> None:
        self._file, self._text = file, text

    def definition(self, found: dict[str, Any]) -> Definition:
        self._refuse_unknown("", found, ("schema", *NOUNS, "watch"))
        levels = [
            self._level(number, row) for number, row in enumerate(self._rows(self._table(found, "city"), "level"), 1)
        ]
        self._refuse_twins(levels)
        watches = [self._watch(number, row) for number, row in enumerate(self._rows(found, "watch"), 1)]
        city, company, product = (self._source(noun, self._table(found, noun)) for noun in NOUNS)
        return Definition(
            self._file, self._text, self._schema(found), city, company, product, tuple(levels), tuple(watches)
        )

    def _schema(self, found: dict[str, Any]) -> str:
        schema = self._text_of(found, "schema", "schema") if "schema" in found else "citycache"
        if len(schema.encode()) > LONGEST_NAME or schema.startswith("pg_") or schema == "information_schema":
            raise self._bad("schema", f"{shortened(schema)} cannot be the name of a schema of ours")
        if not all(sign.isalnum() or sign in "_- " for sign in schema):
            raise self._bad("schema", f"{shortened(schema)} has more than letters, digits, spaces, - and _ in it")
        if schema == PUBLIC and self._file != str(BUILT_IN):
            raise self._bad("schema", "what is adopted gets a schema of its own: 'public' holds tables of others")
        return schema

    def _source(self, noun: Noun, row: dict[str, Any]) -> Source:
        self._check(noun, row, ("level",) if noun == "city" else ())
        values = {
            key: self._text_of(row, key, f"{noun}.{key}")
            for key in (*REQUIRED[noun], *OPTIONAL[noun])
            if key in row and key not in ("table", "id")
        }
        return Source(noun, row["table"], row["id"], values, self._publish(row, noun))

    def _level(self, number: int, row: dict[str, Any]) -> Level:
        place = f"city.level[{number}]"
        self._check("city.level", row, (), place)
        return Level(**{key: self._text_of(row, key, f"{place}.{key}") for key in REQUIRED["city.level"]})

    def _refuse_twins(self, levels: list[Level]) -> None:
        """Places of a tree say which level they are of."""
        for number, level in enumerate(levels, 1):
            if level.name in ("city", *(nearer.name for nearer in levels[: number - 1])):
                raise self._bad(f"city.level[{number}].name", f"{level.name!r} is the name of a level below")

    def _watch(self, number: int, row: dict[str, Any]) -> Watch:
        place = f"watch[{number}]"
        self._check("watch", row, (), place)
        if row["noun"] not in NOUNS:
            raise self._bad(f"{place}.noun", f"is {row['noun']!r}, not one of {', '.join(NOUNS)}")
        ids = row["ids"].strip().rstrip(";")
        return Watch(row["table"], row["noun"], ids, self._publish(row, place))

    def _check(self, kind: str, row: dict[str, Any], more: tuple[str, ...], place: str = "") -> None:
        place = place or kind
        lists = ("publish",) if kind in WITH_LISTS else ()
        self._refuse_unknown(place, row, (*REQUIRED[kind], *OPTIONAL[kind], *lists, *more))
        for key in REQUIRED[kind]:
            if key not in row:
                raise self._bad(f"{place}.{key}", "is missing")
            self._text_of(row, key, f"{place}.{key}")

    def _publish(self, row: dict[str, Any], place: str) -> tuple[str, ...]:
        names = row.get("publish", [])
        if not isinstance(names, list) or not all(map(_says_something, names)):
            raise self._bad(f"{place}.publish", "must be a list of names of columns")
        return tuple(names)

    def _text_of(self, row: dict[str, Any], key: str, place: str) -> str:
        value = row[key]
        if not _says_something(value):
            raise self._bad(place, f"must be a text that is not empty, but is {shortened(value)}")
        if key == "table" and len(value) > LONGEST_TABLE:
            raise self._bad(place, f"{shortened(value)} is too long for the name of a table")
        return str(value).strip()

    def _table(self, found: dict[str, Any], key: str) -> dict[str, Any]:
        if not isinstance(found.get(key), dict):
            raise self._bad(key, "is missing: a table [" + key + "] is needed")
        table: dict[str, Any] = found[key]
        return table

    def _rows(self, found: Any, key: str) -> list[dict[str, Any]]:
        rows = found.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._bad(key, f"must be written as [[{key}]]")
        return rows

    def _refuse_unknown(self, place: str, row: dict[str, Any], known: tuple[str, ...]) -> None:
        for key in row:
            if key not in known:
                name = f"{place}.{key}" if place else key
                raise self._bad(name, f"is unknown; known here: {', '.join(known)}")

    def _bad(self, key: str, reason: str) -> BadDefinition:
        return BadDefinition(self._file, key, reason)


def _says_something(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value
