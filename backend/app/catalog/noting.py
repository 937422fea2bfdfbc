"""Notes of changes that answers of cities show, beside tables that belong to others.

The numbers of transactions go into `city_changes`, as those do that change rows of our own; whoever keeps answers looks
there. A change of columns that no answer shows is not noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from backend.app.catalog import capture
from backend.app.catalog.capture import Followed, captured, function, picked, told
from backend.app.catalog.resolved import Catalog
from backend.app.catalog.sources import quoted

REGISTRY: Final = "shown_tables"


def shown(catalog: Catalog) -> list[Followed]:
    """The tables that answers of cities are read from."""
    return [Followed(f"shown_{number}", table.relation, table.used) for number, table in enumerate(catalog.shown, 1)]


def followed(catalog: Catalog) -> list[Followed]:
    """All tables that triggers of ours stand on, for events or for notes."""
    return [*captured(catalog), *shown(catalog)]


def functions(catalog: Catalog, schema: str) -> Iterator[str]:
    """Statements that make or replace what all these triggers call, and what tells of them."""
    yield capture.registry(captured(catalog), schema)
    yield capture.registry(shown(catalog), schema, REGISTRY)
    for table in captured(catalog):
        yield from capture.functions(table, schema)
    for noted in shown(catalog):
        yield from _notes(noted, schema)


def _notes(table: Followed, schema: str) -> Iterator[str]:
    changes = f"{quoted(schema)}.city_changes"
    note = f"INSERT INTO {changes} (xid) VALUES (pg_catalog.pg_current_xact_id()) ON CONFLICT DO NOTHING;"
    old, new = (f"SELECT (told.*)::pg_catalog.text FROM ({told(table, schema, rows)}) AS told" for rows in _IMAGES)
    whether = {
        "inserted": "EXISTS (SELECT FROM new_rows)",
        "updated": f"EXISTS ({new}\n        EXCEPT ALL {old})",
        "deleted": "EXISTS (SELECT FROM old_rows)",
        "truncated": "true",
        "row": f"TG_OP OPERATOR(pg_catalog.<>) 'UPDATE'\n       OR {_is_another(table)}",
    }
    for what, condition in whether.items():
        yield function(table, schema, what, f"    IF {condition} THEN\n        {note}\n    END IF;")


_IMAGES: Final = ("old_rows", "new_rows")


def _is_another(table: Followed) -> str:
    """Whether the columns of a row have changed; each image is there, of an update."""
    old, new = (f"({picked(table, f'pg_catalog.row_to_json({row})')})::pg_catalog.text" for row in ("OLD", "NEW"))
    return f"{old} IS DISTINCT FROM {new}"
