"""Catalogs of any shape, drawn at random: tables, their definition, and what the caches have to hold beside them.

What is right is said in plain SQL, by joins over the tables, and shares nothing with the code under test.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.adopt.tables import (
    DOMAIN,
    FORMS,
    KEYS,
    NAMES,
    OTHER_KEYS,
    SCHEMAS,
    Column,
    Table,
    Value,
    key_value,
    literal,
    one_of,
    quoted,
)

OWN_SCHEMAS: Final = ["citycache", "City Cache", "кэш", "its-ours_2", "select"]
CITIES, COMPANIES, PRODUCTS, PLACES = 9, 30, 120, 25  # keys in use
FLAGS: Final = one_of("true", "true", "true", "false", "NULL")
CODES: Final = one_of("NULL", *[literal(f"C{number}%s") for number in range(1, 7)])
TEXTS: Final = one_of("'a'", "'ж'''", "'100%'", "NULL")
Expression = Callable[[str], str]  # SQL, by what stands before the names of a row's columns


class Shape:
    """One catalog."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.schema = self.chance.choice(OWN_SCHEMAS)
        self.tables: list[Table] = []
        self.types = [f"CREATE DOMAIN {DOMAIN} AS integer CHECK (VALUE > -1000)"]
        self._sections: list[tuple[str, dict[str, object]]] = []
        self._watches: list[tuple[str, dict[str, object]]] = []
        self._names = self.chance.sample(NAMES, len(NAMES))
        self._cities()
        self._companies()
        self._products()

    def makes(self) -> Iterator[str]:
        """Statements that make it."""
        yield from self.types
        for table in self.tables:
            yield f"CREATE SCHEMA IF NOT EXISTS {quoted(table.schema)}"
            table.add(Column("noise", "text", one_of("'1'", "'2'", "'3'")))
            yield from table.makes(self.chance)

    @property
    def file(self) -> str:
        """The definition."""
        lines = [f"schema = {_toml(self.schema)}"]
        for heading, rows in self._sections + self._watches:
            lines += [heading, *(f"{key} = {_toml(value)}" for key, value in rows.items())]
        return "\n".join(lines) + "\n"

    @property
    def wanted(self) -> dict[str, str]:
        """What each cache has to hold."""
        companies = f"SELECT p.id, p.city FROM ({self._placed}) p JOIN ({self._open}) t ON t.id = p.city"
        products = f"""
            SELECT o.id, c.city, c.id AS company, o.kind
              FROM ({self._offered}) o JOIN ({companies}) c ON c.id = o.company
             WHERE o.kind IN ('product', 'service')"""
        counts = f"""
            SELECT t.id, (SELECT count(*) FROM ({products}) p WHERE p.city = t.id AND p.kind = 'product'),
                   (SELECT count(*) FROM ({products}) p WHERE p.city = t.id AND p.kind = 'service'),
                   (SELECT count(*) FROM ({companies}) c WHERE c.city = t.id) FROM ({self._open}) t"""
        return {"companies": companies, "products": products, "counts": counts}

    @property
    def held(self) -> dict[str, str]:
        """What each cache holds."""
        own = quoted(self.schema)
        return {
            "companies": f"SELECT company_id, city_id FROM {own}.company_city_mapping",
            "products": f"SELECT product_id, city_id, company_id, kind FROM {own}.product_city_mapping",
            "counts": f"SELECT city_id, products_count, services_count, companies_count FROM {own}.city_counts",
        }

    def _cities(self) -> None:
        self.code = self._column("text", CODES)
        name = self._column("text", TEXTS)
        table = self.city = self._table(self.chance.choice(KEYS), CITIES, [name, self.code])
        row: dict[str, object] = {"name": name.name}
        exists: Expression = lambda at: "true"  # noqa: E731
        if self.chance.random() < 0.3:
            exists = self._by_region(table)
        elif self.chance.random() < 0.7:
            exists = self._condition(table)
        self._source("city", table, {**row, "exists": exists(table.at)})
        self.shown = [f"SELECT t.{table.id}::text, t.{name.sql}, ({exists('t.')})::text FROM {table.sql} t"]
        self._levels(table)
        self._open = f"SELECT t.{table.id} AS id FROM {table.sql} t WHERE {exists('t.')}"

    def _levels(self, below: Table) -> None:
        """What cities belong to, and what that belongs to."""
        for name in ("region", "country")[: self.chance.randrange(3)]:
            label = self._column("text", TEXTS)
            wider = self._table(self.chance.choice(KEYS), 6, [label])
            link = below.add(self._pointer(wider))
            row = {"name": name, "table": wider.plain, "id": wider.key.name, "label": label.name, "parent": link.name}
            self._sections.append(("[[city.level]]", dict(row)))
            self.shown.append(f"SELECT t.{below.id}::text, t.{link.sql}::text, 'parent' FROM {below.sql} t")
            self.shown.append(f"SELECT t.{wider.id}::text, t.{label.sql}, 'label' FROM {wider.sql} t")
            below = wider

    def _by_region(self, table: Table) -> Expression:
        is_open = self._column("boolean", FLAGS)
        region = self._table(self.chance.choice(OTHER_KEYS), 6, [is_open])
        link = self._link(table, "city", region)
        return lambda at: (
            f"COALESCE((SELECT r.{is_open.sql} FROM {region.sql} r WHERE r.{region.id} = {at}{link.sql}), true)"
        )

    def _companies(self) -> None:
        name = self._column("varchar(80)", TEXTS)
        table = self.company = self._table(self.chance.choice(KEYS), COMPANIES, [name])
        active = self._condition(table)
        ways = [self._direct, self._by_address, self._by_links, self._by_code, self._by_parent]
        said, placed = self.chance.choice(ways)(table)
        self._source("company", table, {"name": name.name, "city": said, "active": active(table.at)})
        self._placed = f"""
            SELECT way.id, way.city FROM ({placed}) way JOIN {table.sql} own ON own.{table.id} = way.id
             WHERE {active("own.")}"""

    def _direct(self, table: Table) -> tuple[str, str]:
        city = table.add(self._pointer(self.city, self.chance.choice(KEYS)))
        said = self.chance.choice([city.name, city.sql])
        return said, f"SELECT t.{table.id} AS id, t.{city.sql} AS city FROM {table.sql} t"

    def _by_address(self, table: Table) -> tuple[str, str]:
        return self._by_place(table, "company", self.city, "city")

    def _by_links(self, table: Table) -> tuple[str, str]:
        address, city = self._place(self.city)
        firm, place, main = self._pointer(table), self._pointer(address), self._column("boolean", FLAGS)
        link = Table(self._schema(), self._name(), self._form(), firm, [firm, place, main], COMPANIES, is_keyed=False)
        self.tables.append(link)
        ids = f"SELECT l.{firm.sql} FROM {link.sql} l WHERE l.{place.sql} = changed.{address.id}"
        self._watch(link, "company", [firm], f"SELECT changed.{firm.sql}")
        self._watch(address, "company", [address.key], ids)
        said = f"""(SELECT min(a.{city.sql}) FROM {link.sql} l JOIN {address.sql} a ON a.{address.id} = l.{place.sql}
                     WHERE l.{firm.sql} = {table.at}{table.id} AND l.{main.sql})"""
        return (
            said,
            f"""
            SELECT l.{firm.sql} AS id, min(a.{city.sql}) AS city FROM {link.sql} l, {address.sql} a
             WHERE a.{address.id} = l.{place.sql} AND l.{main.sql} GROUP BY 1""",
        )

    def _by_code(self, table: Table) -> tuple[str, str]:
        code = table.add(self._column("text", CODES))
        town = self.city
        ids = f"SELECT t.{table.id} FROM {table.sql} t WHERE t.{code.sql} = changed.{self.code.sql}"
        self._watch(town, "company", [self.code], ids)
        said = f"(SELECT min(t.{town.id}) FROM {town.sql} t WHERE t.{self.code.sql} = {table.at}{code.sql})"
        return (
            said,
            f"""
            SELECT c.{table.id} AS id, min(t.{town.id}) AS city
              FROM {table.sql} c JOIN {town.sql} t ON t.{self.code.sql} = c.{code.sql} GROUP BY 1""",
        )

    def _by_parent(self, table: Table) -> tuple[str, str]:
        city, parent = table.add(self._pointer(self.city)), self._link(table, "company", table)
        said = f"""COALESCE({table.at}{city.sql},
                   (SELECT p.{city.sql} FROM {table.sql} p WHERE p.{table.id} = {table.at}{parent.sql}))"""
        return (
            said,
            f"""
            SELECT t.{table.id} AS id, COALESCE(t.{city.sql}, p.{city.sql}) AS city
              FROM {table.sql} t LEFT JOIN {table.sql} p ON p.{table.id} = t.{parent.sql}""",
        )

    def _by_place(self, table: Table, noun: str, to: Table, what: str) -> tuple[str, str]:
        """Rows point at places, and these at what is asked for."""
        place, found = self._place(to)
        link = self._link(table, noun, place)
        said = f"(SELECT p.{found.sql} FROM {place.sql} p WHERE p.{place.id} = {table.at}{link.sql})"
        return (
            said,
            f"""
            SELECT t.{table.id} AS id, p.{found.sql} AS {what}
              FROM {table.sql} t JOIN {place.sql} p ON p.{place.id} = t.{link.sql}""",
        )

    def _place(self, to: Table) -> tuple[Table, Column]:
        """A table, and its column that points at another one."""
        found = self._pointer(to, self.chance.choice(KEYS))
        return self._table(self.chance.choice(OTHER_KEYS), PLACES, [found]), found

    def _products(self) -> None:
        name = self._column("text", TEXTS)
        table = self._table(self.chance.choice(KEYS), PRODUCTS, [name])
        active, kind = self._condition(table), self._kind(table)
        said, offered = self.chance.choice([self._of_company, self._on_shelf])(table)
        row: dict[str, object] = {"name": name.name, "company": said, "active": active(table.at)}
        self._source("product", table, {**row, **({"kind": kind(table.at)} if kind else {})})
        self._offered = f"""
            SELECT way.id, way.company, {f"({kind('own.')})::text" if kind else "'product'"} AS kind
              FROM ({offered}) way JOIN {table.sql} own ON own.{table.id} = way.id WHERE {active("own.")}"""

    def _of_company(self, table: Table) -> tuple[str, str]:
        link = table.add(self._pointer(self.company, self.chance.choice(KEYS)))
        return link.name, f"SELECT t.{table.id} AS id, t.{link.sql} AS company FROM {table.sql} t"

    def _on_shelf(self, table: Table) -> tuple[str, str]:
        return self._by_place(table, "product", self.company, "company")

    def _condition(self, table: Table) -> Expression:
        """Which rows count, by one of the ways in which people say so."""
        way = self.chance.randrange(5)
        if way == 0:
            flag = table.add(self._column("boolean NOT NULL", one_of("true", "true", "true", "false")))
            return lambda at: f"{at}{flag.sql}"
        if way == 1:
            gone = table.add(self._column("timestamptz", one_of("NULL", "NULL", "NULL", "now()")))
            return lambda at: f"{at}{gone.sql} IS NULL"
        if way == 2:
            state = table.add(self._column("text", one_of("'live'", "'live'", "'live'", "'shut%'", "NULL")))
            return lambda at: f"COALESCE({at}{state.sql} LIKE 'l%', false)"
        source = table.add(self._column("integer", one_of("NULL", "1", "2", "3", "4")))
        if way == 3:
            return lambda at: f"({at}{source.sql} > 1) IS TRUE"
        stored = self.chance.choice(["STORED", "VIRTUAL"])
        computed = f"boolean GENERATED ALWAYS AS ({source.sql} > 1) {stored}"
        made = table.add(Column(self._name(), computed, None))
        return lambda at: f"COALESCE({at}{made.sql}, true)"

    def _kind(self, table: Table) -> Expression | None:
        way = self.chance.randrange(4)
        if way == 0:
            return None
        if way == 1:
            own = table.add(self._column("text", one_of("'product'", "'service'", "'other'", "NULL")))
            return lambda at: f"{at}{own.sql}"
        if way == 2:
            flag = table.add(self._column("boolean", FLAGS))
            return lambda at: f"CASE WHEN {at}{flag.sql} THEN 'service' ELSE 'product' END"
        self.types.append("CREATE TYPE public.\"Art\" AS ENUM ('GOOD', 'SERVICE')")
        art = table.add(self._column('public."Art"', one_of("'GOOD'", "'SERVICE'", "NULL")))
        return lambda at: f"CASE {at}{art.sql} WHEN 'GOOD' THEN 'product' WHEN 'SERVICE' THEN 'service' END"

    def _name(self) -> str:
        return self._names.pop()

    def _schema(self) -> str:
        return self.chance.choice(SCHEMAS)

    def _form(self) -> str:
        return self.chance.choice(list(FORMS))

    def _column(self, kind: str, value: Value) -> Column:
        return Column(self._name(), kind, value)

    def _pointer(self, to: Table, kind: str = "") -> Column:
        """A column that points at a key, which may be NULL and need not be there."""
        kind = kind or to.key.type
        return self._column(
            kind, lambda chance: chance.choice(["NULL", *[key_value(kind, chance.randint(1, to.most))] * 6])
        )

    def _link(self, table: Table, noun: str, to: Table) -> Column:
        """A column more that points at rows which decide on the table's, and the watch over them."""
        link = table.add(self._pointer(to))
        ids = f"SELECT t.{table.id} FROM {table.sql} t WHERE t.{link.sql} = changed.{to.id}"
        self._watch(to, noun, [to.key], ids)
        return link

    def _table(self, kind: str, most: int, columns: Sequence[Column]) -> Table:
        key = self._column(kind, lambda chance: key_value(kind, chance.randint(1, most)))
        self.tables.append(Table(self._schema(), self._name(), self._form(), key, [key, *columns], most))
        return self.tables[-1]

    def _source(self, noun: str, table: Table, rows: dict[str, object]) -> None:
        self._sections.append((f"[{noun}]", {"table": table.plain, "id": table.key.name, **rows}))

    def _watch(self, table: Table, noun: str, publish: Sequence[Column], ids: str) -> None:
        names = [column.name for column in publish]
        self._watches.append(("[[watch]]", {"table": table.plain, "noun": noun, "publish": names, "ids": ids}))


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
