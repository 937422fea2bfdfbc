"""Running one statement."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import Connection

from events.prepared import Prepared


def run(connection: Connection, sql: str, **parameters: Any) -> list[Any]:
    """The rows of this statement, none where it yields none; lists are given as arrays."""
    return _rows(connection, sql, {name: as_array(value) for name, value in parameters.items()})


def run_often(connection: Connection, sql: str, **parameters: Any) -> list[Any]:
    """The same of a statement for few rows that this session runs many times a second; see `Prepared`."""
    prepared: Prepared = connection.info.setdefault("prepared", Prepared())
    given = {name: as_array(value) for name, value in parameters.items()}
    return prepared.run(partial(_rows, connection), sql, given)


def run_named_often(statements: Mapping[str, str], connection: Connection, name: str, **parameters: Any) -> list[Any]:
    """`run_often` of one of these statements."""
    return run_often(connection, statements[name], **parameters)


def run_named(statements: Mapping[str, str], connection: Connection, name: str, **parameters: Any) -> list[Any]:
    """The same of one of these statements."""
    return run(connection, statements[name], **parameters)


def _rows(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
    result = connection.exec_driver_sql(sql, dict(parameters))
    return list(result.fetchall()) if result.returns_rows else []


def value_named(statements: Mapping[str, str], connection: Connection, name: str, **parameters: Any) -> Any:
    """The first value of its first row; None where it yields none."""
    rows = run_named(statements, connection, name, **parameters)
    return rows[0][0] if rows else None


def as_array(value: Any) -> Any:
    """Lists as PostgreSQL array texts: its parser reads one literal far faster than thousands of values."""
    if not isinstance(value, list):
        return value
    return "{" + ",".join(map(str if set(map(type, value)) == {int} else _element, value)) + "}"


def _element(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "NULL" if value is None else str(value)
