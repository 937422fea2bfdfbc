"""Capture of tables that belong to others: functions that write events, and the triggers that call them.

A change makes an event only when a column that the definition uses has changed, and the event carries these columns
only. Columns are bound when a writer's statement is planned: the row comes as a subquery, whose names hide those of a
row of nothing beside it. So a column that is gone is NULL instead of an error in the writer's face; and while one is
gone, each update makes an event, since nobody can say any more what it changed.

The functions run with their owner's rights in the writer's session, so everything is named with its schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from backend.app.catalog.resolved import KEY_TYPES, Catalog, Relation, ResolvedWatch
from backend.app.catalog.sources import body, literal, quoted

MISSING: Final = "missing"  # a type without values: that of a column that is gone
Form = Literal["statement", "row"]
PREFIX: Final = "citycache_"
_EQUALS, _JOINED, _DIFFERS = (f"OPERATOR(pg_catalog.{sign})" for sign in ("=", "||", "*<>"))


@dataclass(frozen=True)
class Followed:
    """One table on which triggers of ours stand."""

    role: str  # city, company, product; watched_1, shown_1 and so on
    relation: Relation
    columns: tuple[str, ...]  # whose change matters

    def function(self, what: str) -> str:
        """The name of one of its functions."""
        return f"capture_{self.role}_{what}"

    def trigger(self, what: str) -> str:
        """The name of one of its triggers."""
        return f"{PREFIX}{self.role}_{what}"


@dataclass(frozen=True)
class Captured(Followed):
    """One table whose changes make events, in which the columns travel."""

    key: tuple[str, ...]  # columns that name the row in the event's subject

    @property
    def is_watched(self) -> bool:
        """Whether its rows are none of the three nouns."""
        return self.role.startswith("watched")

    @property
    def noun(self) -> str:
        """As event types have it."""
        return "watched" if self.is_watched else self.role


def captured(catalog: Catalog) -> list[Captured]:
    """All tables that are captured."""
    nouns = [
        Captured(source.noun, source.relation, source.used, (source.id.name,)) for source in catalog.sources.values()
    ]
    return nouns + [
        Captured(f"watched_{number}", watch.relation, _with_key(watch), watch.relation.primary_key)
        for number, watch in enumerate(_first_of_tables(catalog.watches), 1)
    ]


def _with_key(watch: ResolvedWatch) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*watch.relation.primary_key, *watch.used)))


def _first_of_tables(watches: Sequence[ResolvedWatch]) -> list[ResolvedWatch]:
    """One watch of each table, with what all of them publish."""
    tables: dict[int, ResolvedWatch] = {}
    for watch in watches:
        tables.setdefault(watch.relation.oid, watch)
    return list(tables.values())


def missing_type(schema: str) -> str:
    """The type of a column that is gone."""
    return f"CREATE TYPE {quoted(schema)}.{MISSING} AS ENUM ()"


def registry(tables: Sequence[Followed], schema: str, name: str = "captured_tables") -> str:
    """A function that says what is followed, for whoever looks whether it still is."""
    rows = [
        f"({literal(table.role)}, {literal(table.relation.sql)}, ARRAY[{', '.join(map(literal, table.columns))}])"
        for table in tables
    ]
    returns = "RETURNS TABLE (role text, table_name text, columns text[]) LANGUAGE sql STABLE AS"
    return f"CREATE OR REPLACE FUNCTION {quoted(schema)}.{name}() {returns} " + body("VALUES " + ", ".join(rows))


def functions(table: Captured, schema: str) -> Iterator[str]:
    """Statements that make or replace the functions of one table, both forms."""
    two_images = _two_images if table.key else _two_images_without_key
    yield function(table, schema, "inserted", _one_image(table, schema, "created", "new_rows"))
    yield function(table, schema, "deleted", _one_image(table, schema, "deleted", "old_rows"))
    yield function(table, schema, "updated", two_images(table, schema))
    outbox = f"{quoted(schema)}.event_outbox"
    truncated = f"    INSERT INTO {outbox} (type, subject) VALUES ({_truncated(table)});"
    yield function(table, schema, "truncated", truncated)
    yield function(table, schema, "row", _row_form(table, schema), _VARIABLES)


def triggers(table: Followed, schema: str, on: str, form: Form) -> dict[str, tuple[str, ...]]:
    """Statements that make the triggers of one table or partition, by trigger; each wants a transaction of its own."""
    if form == "row":
        made = {"row": f"AFTER INSERT OR UPDATE OR DELETE ON {on} FOR EACH ROW"}
    else:
        old, new = "OLD TABLE AS old_rows", "NEW TABLE AS new_rows"
        made = {
            "inserted": f"AFTER INSERT ON {on} REFERENCING {new} FOR EACH STATEMENT",
            "updated": f"AFTER UPDATE ON {on} REFERENCING {old} {new} FOR EACH STATEMENT",
            "deleted": f"AFTER DELETE ON {on} REFERENCING {old} FOR EACH STATEMENT",
        }
    made["truncated"] = f"AFTER TRUNCATE ON {on} FOR EACH STATEMENT"
    return {table.trigger(what): _trigger(table, schema, what, when, on, form) for what, when in made.items()}


def _trigger(table: Followed, schema: str, what: str, when: str, on: str, form: Form) -> tuple[str, ...]:
    call = f"EXECUTE FUNCTION {quoted(schema)}.{table.function(what)}()"
    create = f"CREATE OR REPLACE TRIGGER {table.trigger(what)} {when} {call}"
    always = f"ALTER TABLE {on} ENABLE ALWAYS TRIGGER {table.trigger(what)}"
    return (create, always) if form == "row" else (create,)


def function(table: Followed, schema: str, what: str, statements: str, variables: str = "") -> str:
    """The statement that makes or replaces one trigger function."""
    name = f"{quoted(schema)}.{table.function(what)}()"
    return f"CREATE OR REPLACE FUNCTION {name} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS " + body(
        f"{_OWN_NAMES}{variables}BEGIN\n{statements}\n    RETURN NULL;\nEND"
    )


_OWN_NAMES: Final = "#variable_conflict use_column\n"  # a column may be called found, new or tg_op


_VARIABLES: Final = """DECLARE
    old_row pg_catalog.json;
    new_row pg_catalog.json;
"""


def _one_image(table: Captured, schema: str, verb: str, rows: str) -> str:
    row = "pg_catalog.row_to_json(told.*)"
    images = ("NULL::pg_catalog.json", row) if verb == "created" else (row, "NULL::pg_catalog.json")
    named = (_type(table, literal(verb), "told"), _subject(table, "told"))
    return _write(table, schema, named, images, f"FROM ({told(table, schema, rows)}) AS told")


def _two_images(table: Captured, schema: str) -> str:
    """Old and new rows meet by their key; a changed key counts as a deletion and a creation."""
    first = quoted(table.key[0])
    same = " AND ".join(f"{_key(table, 'fresh', name)} {_EQUALS} {_key(table, 'stale', name)}" for name in table.key)
    gone = "".join(
        f"\n        OR pg_catalog.pg_typeof(fresh.{quoted(name)}) {_EQUALS} {_missing(schema)}::pg_catalog.regtype"
        for name in table.columns
    )
    verb = (
        f"CASE WHEN stale.{first} IS NULL THEN 'created' WHEN fresh.{first} IS NULL THEN 'deleted' ELSE 'updated' END"
    )
    named = (
        _type(table, verb, "fresh", "stale"),
        f"coalesce({_subject(table, 'fresh', False)}, {_subject(table, 'stale')})",
    )
    stale, fresh = (
        f"CASE WHEN {image}.{first} IS NOT NULL THEN pg_catalog.row_to_json({image}.*) END"
        for image in ("stale", "fresh")
    )
    rest = (
        f"FROM ({told(table, schema, 'old_rows')}) AS stale\n"
        f"      FULL JOIN ({told(table, schema, 'new_rows')}) AS fresh ON {same}\n"
        f"     WHERE fresh.{first} IS NULL OR stale.{first} IS NULL OR fresh.* {_DIFFERS} stale.*{gone}"
    )
    return _write(table, schema, named, (stale, fresh), rest)


def _key(table: Captured, image: str, name: str) -> str:
    """Types of extensions have operators that no search path of ours finds: they are compared as they are written."""
    column = f"{image}.{quoted(name)}"
    return column if table.relation.columns[name].type in KEY_TYPES else f"{column}::pg_catalog.text"


def _two_images_without_key(table: Captured, schema: str) -> str:
    """Rows that are there as often before as after have not changed; the others went or came."""
    image = "(told.*)::pg_catalog.text"
    stale, fresh = (
        f"(SELECT {image} AS image, pg_catalog.row_number() OVER (PARTITION BY {image}) AS nth,"
        f" pg_catalog.row_to_json(told.*) AS told FROM ({told(table, schema, rows)}) AS told)"
        for rows in ("old_rows", "new_rows")
    )
    rest = (
        f"FROM {stale} AS stale\n"
        f"      FULL JOIN {fresh} AS fresh ON fresh.image {_EQUALS} stale.image AND fresh.nth {_EQUALS} stale.nth\n"
        f"     WHERE fresh.nth IS NULL OR stale.nth IS NULL"
    )
    return _write(table, schema, ("NULL", "NULL"), ("stale.told", "fresh.told"), rest)


def _write(table: Captured, schema: str, named: tuple[str, str], images: tuple[str, str], rest: str) -> str:
    """The statement that writes the events; type and subject are `named`. What a watched row decides about is asked
    when its event is applied, from the images that are kept for it."""
    before, after = images
    outbox = f"INSERT INTO {quoted(schema)}.event_outbox (type, subject, before, after)"
    if not table.is_watched:
        kind, subject = named
        return f"    {outbox}\n    SELECT {kind}, {subject}, {before}, {after}\n      {rest};"
    return (
        f"    WITH change AS (\n"
        f"    INSERT INTO {quoted(schema)}.watched_changes (table_name, before, after)\n"
        f"    SELECT {literal(table.relation.plain)}, {before}, {after}\n      {rest}\n"
        f"    RETURNING id, before, after)\n"
        f"    {outbox}\n"
        f"    SELECT 'catalog.watched.' {_JOINED} CASE WHEN before IS NULL AND after IS NOT NULL THEN 'created'"
        f" WHEN after IS NULL AND before IS NOT NULL THEN 'deleted' ELSE 'updated' END,\n"
        f"           'watched/' {_JOINED} id::pg_catalog.text, before, after\n      FROM change;"
    )


def told(table: Followed, schema: str, rows: str) -> str:
    """The columns that matter, of each row of a transition table."""
    names = [quoted(name) for name in table.columns]
    absent = ", ".join(f"NULL::{quoted(schema)}.{MISSING} AS {name}" for name in names)
    return (
        f"SELECT told.* FROM {rows} AS image CROSS JOIN (SELECT {absent}) AS absent"
        f" CROSS JOIN LATERAL (SELECT {', '.join(names)} FROM (SELECT image.*) AS present) AS told"
    )


def _missing(schema: str) -> str:
    return literal(f"{quoted(schema)}.{MISSING}")


def _type(table: Captured, verb: str, *images: str) -> str:
    """Where the key's own column is gone, nobody can say which row it was: everything is looked at."""
    if not table.key:
        return "NULL"
    prefix = literal(f"catalog.{table.noun}.")
    keys = " AND ".join(f"{image}.{quoted(table.key[0])} IS NULL" for image in images)
    truncated = literal(f"catalog.{table.noun}.truncated")
    return f"CASE WHEN {keys} THEN {truncated} ELSE {prefix} {_JOINED} ({verb}) END"


def _subject(table: Captured, image: str, final: bool = True) -> str:
    """The noun and the key."""
    if not table.key:
        return "NULL"
    subject = f"{literal(table.noun + '/')} {_JOINED} {image}.{quoted(table.key[0])}::pg_catalog.text"
    return f"coalesce({subject}, {literal(table.noun)})" if final else subject


def _truncated(table: Captured) -> str:
    return f"{literal(f'catalog.{table.noun}.truncated')}, {literal(table.noun)}"


def _row_form(table: Captured, schema: str) -> str:
    """One row at a time, for tables that logical replication writes: statement triggers stay silent there."""
    rest = f"""FROM (SELECT {picked(table, "old_row")} AS told, {_row_keys(table, "old_row")}) AS stale
      FULL JOIN (SELECT {picked(table, "new_row")} AS told, {_row_keys(table, "new_row")}) AS fresh
        ON {_same_row(table)}
     WHERE (fresh.told IS NOT NULL OR stale.told IS NOT NULL)
       AND (fresh.told::pg_catalog.text IS DISTINCT FROM stale.told::pg_catalog.text OR {_gone_from_row(table)})"""
    named = (_type(table, _ROW_VERB, "stale", "fresh"), _row_subject(table))
    written = _write(table, schema, named, ("stale.told", "fresh.told"), rest)
    return f"""    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
        old_row := pg_catalog.row_to_json(OLD);
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
        new_row := pg_catalog.row_to_json(NEW);
    END IF;
{written}"""


_ROW_VERB: Final = (
    "CASE WHEN stale.told IS NULL THEN 'created' WHEN fresh.told IS NULL THEN 'deleted' ELSE 'updated' END"
)


def _row_subject(table: Captured) -> str:
    if not table.key:
        return "NULL"
    fresh, stale = (_subject(table, image, final=False) for image in ("fresh", "stale"))
    return f"coalesce(CASE WHEN fresh.told IS NOT NULL THEN {fresh} END, {stale}, {literal(table.noun)})"


def _row_keys(table: Captured, row: str) -> str:
    if not table.key:
        return "true AS there"
    return ", ".join(f"{row} OPERATOR(pg_catalog.->>) {literal(name)} AS {quoted(name)}" for name in table.key)


def _same_row(table: Captured) -> str:
    names = [quoted(name) for name in table.key] or ["there"]
    return " AND ".join(f"fresh.{name} {_EQUALS} stale.{name}" for name in names)


def picked(table: Followed, row: str) -> str:
    """The columns that matter, of a row as JSON, in one order; NULL where there is no row."""
    pairs = ", ".join(f"{literal(name)}, {row} OPERATOR(pg_catalog.->) {literal(name)}" for name in table.columns)
    return f"CASE WHEN {row} IS NOT NULL THEN pg_catalog.json_build_object({pairs}) END"


def _gone_from_row(table: Captured) -> str:
    return " OR ".join(f"new_row OPERATOR(pg_catalog.->) {literal(name)} IS NULL" for name in table.columns)
