"""What a definition becomes in the database: functions that read their tables, and views that everything else reads.

The functions have text bodies, so that no column of theirs is held fast by a dependency, and are inlined by the
planner. Keys keep their own type: a cast would hide the index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from backend.app.catalog.definition import COLUMNS, KEY, Noun
from backend.app.catalog.resolved import Catalog, ResolvedSource, ResolvedWatch, Value

TRUTH: Final = Path(__file__).parents[1] / "caches" / "truth.sql"
FUNCTIONS: Final[Mapping[Noun, str]] = {"city": "city_rows", "company": "company_rows", "product": "product_rows"}
VIEWS: Final[Mapping[Noun, str]] = {
    "city": "catalog_cities",
    "company": "catalog_companies",
    "product": "catalog_products",
}
TRUTH_VIEWS: Final = ("company_city_truth", "product_city_truth")


def quoted(name: str) -> str:
    """An identifier of ours."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text, whatever standard_conforming_strings says."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if "\\" not in text else "E'" + escaped.replace("\\", "\\\\") + "'"


def body(sql: str) -> str:
    """A function's text between dollar signs that it does not contain."""
    tag = "body"
    while f"${tag}$" in sql:
        tag += "_"
    return f"${tag}$\n{sql}\n${tag}$"


def drop_built_in(schema: str) -> str:
    """Takes the built-in catalog's tables out of the schema of an adopted one, where migrations have made them."""
    tables = ", ".join(f"{quoted(schema)}.{name}" for name in ("products", "companies", "cities"))
    return f"DROP TABLE IF EXISTS {tables} CASCADE"


def drop_readers(schema: str) -> str:
    """Takes views and functions away, so that others of other types can be made."""
    views_ = ", ".join(f"{quoted(schema)}.{view}" for view in (*TRUTH_VIEWS[::-1], *VIEWS.values()))
    functions_ = ", ".join(f"{quoted(schema)}.{function}()" for function in FUNCTIONS.values())
    return f"DROP VIEW IF EXISTS {views_}; DROP FUNCTION IF EXISTS {functions_}"


def statements(catalog: Catalog, schema: str) -> Iterator[str]:
    """Statements that make or replace all of it, in their order; the search path names the schema."""
    for source in catalog.sources.values():
        yield _reader(source, schema)
    yield _tables(catalog, schema)
    yield from _views(schema)
    for number, watch in enumerate(catalog.watches, 1):
        yield _ids_of(number, watch, schema)
    yield _watches(catalog, schema)
    yield from _levels(catalog, schema)


def _views(schema: str) -> Iterator[str]:
    for noun, view in VIEWS.items():
        yield f"CREATE OR REPLACE VIEW {quoted(schema)}.{view} AS SELECT * FROM {quoted(schema)}.{FUNCTIONS[noun]}()"
    yield TRUTH.read_text(encoding="utf-8").strip().rstrip(";")


def _reader(source: ResolvedSource, schema: str) -> str:
    columns = [_column(source, *column) for column in COLUMNS[source.noun]]
    names = [f"id {source.id.type}", *(f"{name} {kind}" for name, kind, _ in columns), "version xid"]
    values = [source.id.sql, *(value for _, _, value in columns), "xmin"]
    query = f"SELECT {', '.join(values)}\n  FROM {source.relation.sql}"
    if exists := source.values.get("exists"):
        query += f"\n WHERE ({exists.sql}\n)"
    return _answering(schema, f"{FUNCTIONS[source.noun]}()", ", ".join(names), query)


def _answering(schema: str, name: str, columns: str, query: str) -> str:
    """A function of ours that answers a query's rows."""
    returns = f"RETURNS TABLE ({columns}) LANGUAGE sql STABLE AS {body(query)}"
    return f"CREATE OR REPLACE FUNCTION {quoted(schema)}.{name} {returns}"


def _column(source: ResolvedSource, name: str, key: str, kind: str, absent: str) -> tuple[str, str, str]:
    """Name, type and expression; what has that type already is not cast, for the planner's sake."""
    value = source.values.get(key)
    if value is None:
        return name, kind, absent if kind == "boolean" else f"{absent}::{kind}"
    if kind in (KEY, value.type):
        return name, value.type, _plain(value)
    return name, kind, f"({value.sql}\n)::{kind}"


def _plain(value: Value) -> str:
    return value.sql if value.sql.replace("_", "").isalnum() or value.sql.startswith('"') else f"({value.sql}\n)"


def _ids_of(number: int, watch: ResolvedWatch, schema: str) -> str:
    """The ids that one image of a watched row points at, as a set that may be asked above an id."""
    columns = [f"{column.sql} {column.type}" for column in watch.publish] or ["nothing text"]
    query = (
        f"SELECT DISTINCT key.id::bigint\n"
        f"  FROM pg_catalog.json_to_record(image) AS changed ({', '.join(columns)})\n"
        f" CROSS JOIN LATERAL (\n{watch.ids}\n) AS key (id)\n WHERE key.id IS NOT NULL"
    )
    return _answering(schema, f"watch_{number}_ids(image json)", "id bigint", query)


def _tables(catalog: Catalog, schema: str) -> str:
    """Where the rows of each noun are."""
    rows = [f"({literal(source.noun)}, {literal(source.relation.sql)})" for source in catalog.sources.values()]
    return _answering(schema, "catalog_tables()", "role text, table_name text", f"VALUES {', '.join(rows)}")


def _watches(catalog: Catalog, schema: str) -> str:
    """Which watches a table has, and whose ids they answer."""
    rows = [
        f"({number}, {literal(watch.relation.plain)}, {literal(watch.noun)})"
        for number, watch in enumerate(catalog.watches, 1)
    ]
    query = f"VALUES {', '.join(rows)}" if rows else "SELECT NULL::integer, NULL::text, NULL::text WHERE false"
    return _answering(schema, "watches()", "number integer, table_name text, noun text", query)


def _levels(catalog: Catalog, schema: str) -> Iterator[str]:
    """For each kind of row that a level may hang on: its key, its label, and the keys of the levels above."""
    city = catalog.sources["city"]
    rows = [(city.relation, city.id.sql, city.values["name"].sql)]
    rows += [(level.relation, level.id.sql, level.label.sql) for level in catalog.levels]
    tables = [relation.oid for relation, _, _ in rows]
    for number, (table, key, label) in enumerate(rows if catalog.levels else []):
        above = catalog.parents.get(number, {})
        parents = ", ".join(_parent(above.get(level)) for level in range(1, len(catalog.levels) + 1))
        query = f"SELECT {key}::bigint, ({label}\n)::text, ARRAY[{parents}]::bigint[]\n  FROM {table.sql}"
        if number and tables.count(table.oid) > 1:
            query += f"\n WHERE {key} IN ({_named_from_below(number, schema)})"
        yield _answering(schema, f"level_{number}_rows()", "id bigint, label text, parents bigint[]", query)


def _named_from_below(level: int, schema: str) -> str:
    """The keys of a level that cities, or rows of the levels below, name and that are not of a nearer one: where one
    table holds several levels nothing else tells whose rows they are."""
    own = quoted(schema)
    cities = f"JOIN {own}.{VIEWS['city']} AS city USING (id)"
    ways = []
    for below in range(level):
        nearer = "".join(f" AND place.parents[{number}] IS NULL" for number in range(below + 1, level))
        rows = f"{own}.level_{below}_rows() AS place {'' if below else cities}"
        ways.append(f"SELECT place.parents[{level}] FROM {rows} WHERE place.parents[{level}] IS NOT NULL{nearer}")
    return "\n        UNION ".join(ways)


def _parent(value: Value | None) -> str:
    return "NULL" if value is None else f"({value.sql}\n)"
