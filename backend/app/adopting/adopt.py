"""Adopting: the steps from tables that somebody has to caches that follow them.

Each step looks at what is there and does what lacks, so that one that was killed goes on when it is run again. Triggers
come before the views that read what they capture, and the rebuild comes last: whatever was missed until then, its
comparison sees.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg2.errors
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.adopting import triggers
from backend.app.adopting.applied import resolved
from backend.app.adopting.triggers import Progress
from backend.app.caches import rebuilds
from backend.app.caches.keys import Cause
from backend.app.catalog import capture, noting, sources
from backend.app.catalog.definition import Definition
from backend.app.catalog.resolved import Catalog, run_as_it_is
from backend.app.database.migrating import migrate
from backend.app.errors import Refused, is_of_a_value
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_name("adopting.sql"))
CAUSE: Final = Cause("adopt")
LOCK: Final = 0x61646F70  # 'adop'
LOCK_SECONDS: Final = 5.0  # for the server to see that one who held it was killed
SHOWN_EVERY: Final = 50_000  # rows between two lines of progress


def adopt(definition: Definition, progress: Progress) -> dict[str, Any]:
    """Do all of it; what the first fill, or a changed definition, has changed. Raises BadDefinition, also of a row that
    an expression fails on, Refused, Away."""
    catalog = resolved(definition)
    with one_at_a_time():
        migrate()
        _begin(definition)
        _capture(catalog, progress)
        _read(catalog)
        with db.transaction() as connection:
            left_over = triggers.needless(connection, catalog)
        triggers.remove(left_over, progress)
        try:
            filled = fill(progress)
        except DBAPIError as failure:
            if is_of_a_value(failure):
                resolved(definition, every_row=True)
            raise
        _finish(catalog)
    return filled


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two would get into each other's way; raises Refused while another one adopts or releases."""
    connection = db.direct("adopt")
    try:
        with db.translated(), connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = %s", (f"{int(LOCK_SECONDS * 1000)}ms",))
            try:
                cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            except psycopg2.errors.LockNotAvailable as failure:
                raise Refused("another adopt or release is under way") from failure
        yield
    finally:
        connection.close()


def _begin(definition: Definition) -> None:
    """Remember the definition. What the database has no letters for, in a comment, is remembered as it is escaped."""
    asked = {"definition": definition.text, "digest": definition.digest}
    with db.transaction() as connection:
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(SQL["begin"], asked)
        except DBAPIError as failure:
            if not isinstance(failure.orig, psycopg2.errors.UntranslatableCharacter):
                raise
            escaped = definition.text.encode("ascii", "backslashreplace").decode()
            connection.exec_driver_sql(SQL["begin"], {**asked, "definition": escaped})


def _finish(catalog: Catalog) -> None:
    """From now on changes of what answers show are noted, this one as well."""
    asked = {"digest": catalog.definition.digest, "has_shown_levels": catalog.has_shown_levels}
    with db.transaction() as connection:
        connection.exec_driver_sql(SQL["finish"], asked)


def _capture(catalog: Catalog, progress: Progress) -> None:
    """Functions first, all at once; then the triggers that lack, one by one."""
    schema = catalog.definition.schema
    with db.transaction() as connection:
        if not connection.exec_driver_sql(SQL["type_exists"], {"schema": schema, "name": capture.MISSING}).scalar_one():
            run_as_it_is(connection, capture.missing_type(schema))
        for statement in noting.functions(catalog, schema):
            run_as_it_is(connection, statement)
    with db.transaction() as connection:
        lacking = triggers.lacking(connection, catalog)
    triggers.install(lacking, progress)


def _read(catalog: Catalog) -> None:
    """Let functions and views follow the definition. Where types have changed they are made anew."""
    with db.transaction() as connection:
        try:
            with connection.begin_nested():
                make_readers(connection, catalog, catalog.definition.schema)
        except DBAPIError as failure:
            if not isinstance(failure.orig, psycopg2.errors.InvalidFunctionDefinition):
                raise
            run_as_it_is(connection, sources.drop_readers(catalog.definition.schema))
            make_readers(connection, catalog, catalog.definition.schema)


def make_readers(connection: Connection, catalog: Catalog, schema: str) -> None:
    """Functions and views that read the catalog."""
    for statement in sources.statements(catalog, schema):
        run_as_it_is(connection, statement)


def fill(progress: Progress) -> dict[str, Any]:
    """The first fill is a rebuild: online, and what events bring meanwhile is applied. Nobody is told what was wrong,
    so nobody waits to tell it from what was late."""
    companies = rebuilds.rebuild("companies", CAUSE, _nobody_waits, _told("companies", progress), finish=False)
    products = rebuilds.rebuild("products", CAUSE, _nobody_waits, _told("products", progress), finish=False)
    counts = rebuilds.rebuild_counts(_nobody_waits, active=True)
    return {
        "companies": {"compared": companies.checked, "changed": companies.patched},
        "products": {"compared": products.checked, "changed": products.patched},
        "cities": {"compared": counts.checked, "changed": counts.patched},
    }


def _nobody_waits(_: datetime) -> bool:
    return False


def _told(what: str, progress: Progress) -> rebuilds.Progress:
    shown = 0

    def tell(state: dict[str, Any]) -> None:
        nonlocal shown
        patched = int(state.get("patched", 0))
        if patched >= shown + SHOWN_EVERY:
            shown = patched
            progress(f"{what}: {patched:,} of {state['differing']:,} filled")

    return tell
