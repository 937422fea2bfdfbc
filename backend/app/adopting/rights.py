"""What our roles may do beside an adopted catalog: read the columns that the definition names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from backend.app import db
from backend.app.catalog.resolved import Catalog, Relation
from backend.app.catalog.sources import quoted
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("adopting.sql"))


def grant(catalog: Catalog) -> None:
    """Let the roles that this server has read through the definition."""
    with db.transaction() as connection:
        roles = connection.exec_driver_sql(SQL["roles"]).scalars().all()
        for role in roles:
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {quoted(catalog.definition.schema)} TO {role}")
            for relation, columns in read(catalog):
                connection.exec_driver_sql(f"GRANT SELECT ({', '.join(columns)}) ON {relation.sql} TO {role}")


def revoke(catalog: Catalog) -> None:
    """Take back what was granted on tables of theirs."""
    with db.transaction() as connection:
        roles = connection.exec_driver_sql(SQL["roles"]).scalars().all()
        for role in roles:
            for relation, columns in read(catalog):
                connection.exec_driver_sql(f"REVOKE SELECT ({', '.join(columns)}) ON {relation.sql} FROM {role}")


def read(catalog: Catalog) -> Iterator[tuple[Relation, list[str]]]:
    """Tables of theirs with the columns that are read, quoted; `xmin` is the transaction that wrote a row."""
    for source in catalog.sources.values():
        more = catalog.level_uses[0] if source.noun == "city" else frozenset()
        yield source.relation, [*(quoted(name) for name in sorted({*source.used, *more})), "xmin"]
    for watch in catalog.watches:
        yield watch.relation, [quoted(name) for name in watch.used] or ["xmin"]
    for number, level in enumerate(catalog.levels, 1):
        names = {level.id.name, *catalog.level_uses[number]}
        yield level.relation, [quoted(name) for name in sorted(names)]
