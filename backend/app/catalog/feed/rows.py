"""Load the rows that some lines of a feed name, and write what has become of them, thousands a statement."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg2.extensions

from backend.app.catalog.feed.fold import COLUMNS, NOUNS, PARENT_NOUN, FeedNode, Model
from backend.app.catalog.feed.lines import FeedChange
from backend.app.database.statement import as_array
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("importing.sql"))
Cursor = psycopg2.extensions.cursor


def load(cursor: Cursor, changes: Sequence[FeedChange]) -> Model:
    """The rows that these changes name, those to be changed locked until the transaction ends."""
    named: dict[str, set[str]] = {noun: set() for noun in NOUNS}
    parents: dict[str, set[str]] = {noun: set() for noun in NOUNS}
    for change in changes:
        named[change.kind].add(change.id)
        if change.kind != "city" and isinstance(change.parent, str):
            parents[PARENT_NOUN[change.kind]].add(change.parent)
    model = Model()
    for noun in NOUNS:
        if keys := named[noun]:
            model.load(noun, _all(cursor, f"load_{noun}", keys=as_array(list(keys))))
        if keys := parents[noun] - named[noun]:
            model.load(noun, _all(cursor, f"load_parent_{noun}", keys=as_array(list(keys))))
    return model


def write(cursor: Cursor, model: Model) -> None:
    """Make the database equal to the model."""
    dead = {noun: [n.id for n in model.nodes[noun].values() if not n.live and n.id is not None] for noun in NOUNS}
    _delete(cursor, "product", [*dead["product"], *model.reborn["product"]])
    _delete(cursor, "company", model.reborn["company"])
    _delete(cursor, "city", model.reborn["city"])
    for noun in NOUNS:
        living = [node for node in model.nodes[noun].values() if node.live]
        _insert(cursor, noun, [node for node in living if node.id is None])
        _update(cursor, noun, [node for node in living if node.stored is not None and node.differs()])
    _delete(cursor, "company", dead["company"])
    _delete(cursor, "city", dead["city"])


def _insert(cursor: Cursor, noun: str, nodes: list[FeedNode]) -> None:
    """Ids are drawn first, so that children know their parents' before a row is written."""
    if not nodes:
        return
    for node, (row_id,) in zip(nodes, _all(cursor, f"ids_{noun}", rows=len(nodes)), strict=True):
        node.id = row_id
    if noun == "city":
        rows = "".join([f"{n.id}\t{_copied(n.key)}\t{_line(n.values)}" for n in nodes])
    else:
        rows = "".join([f"{n.id}\t{_copied(n.key)}\t{_copied(_parent_id(n))}\t{_line(n.values)}" for n in nodes])
    cursor.copy_expert(SQL[f"insert_{noun}"], io.StringIO(rows))


def _update(cursor: Cursor, noun: str, nodes: list[FeedNode]) -> None:
    if not nodes:
        return
    columns = zip(*(node.values for node in nodes), strict=True)
    arrays = {name: as_array(list(values)) for name, values in zip(COLUMNS[noun], columns, strict=True)}
    arrays["ids"] = as_array([node.id for node in nodes])
    arrays["parent"] = as_array([_parent_id(node) for node in nodes])
    cursor.execute(SQL[f"update_{noun}"], arrays)


def _delete(cursor: Cursor, noun: str, ids: list[Any]) -> None:
    if ids:
        cursor.execute(SQL[f"delete_{noun}"], {"ids": as_array(sorted(ids))})


def _parent_id(node: FeedNode) -> int | None:
    return node.parent.id if isinstance(node.parent, FeedNode) else node.parent


def _line(values: Iterable[Any]) -> str:
    return "\t".join([_copied(value) for value in values]) + "\n"


def _copied(value: Any) -> str:
    """One value in COPY's text format."""
    if value is None:
        return "\\N"
    text = value if isinstance(value, str) else str(value)
    if text.isprintable() and "\\" not in text:
        return text
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _all(cursor: Cursor, name: str, **parameters: Any) -> list[Any]:
    cursor.execute(SQL[name], parameters)
    return cursor.fetchall()
