"""The API's transactions: short, on a pool as large as its threads, and tied to the request's deadline and trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

from fastapi import Depends, Request
from sqlalchemy import Connection

from backend.app import db
from backend.app.api import deadline
from backend.app.telemetry import tracing

STATEMENT_MS: Final = 1_500  # the server gives up before the deadline of the request
THREADS: Final = 20  # at most as many requests in threads as connections
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def prepare() -> None:
    """Make this process's engine with the API's deadlines, if there is none yet."""
    db.engine("api", statement_ms=STATEMENT_MS, size=THREADS)


@contextmanager
def transaction(traceparent: str | None = None) -> Iterator[Connection]:
    """One transaction; its changes carry the trace. Nothing is committed after the request's deadline."""
    prepare()
    with db.transaction() as connection:
        if traceparent:
            statement = "SELECT set_config('citycache.traceparent', %(value)s, true)"
            connection.exec_driver_sql(statement, {"value": traceparent})
        yield connection
        deadline.check()


@contextmanager
def snapshot() -> Iterator[Connection]:
    """Read only; all statements see one state."""
    prepare()
    with db.snapshot() as connection:
        yield connection


def _traceparent(request: Request) -> str | None:
    """The trace context of the request's own span, else the one that the request brought, when it is valid."""
    if own := tracing.traceparent():
        return own
    header = request.headers.get("traceparent", "").strip()
    return header if _TRACEPARENT.fullmatch(header) else None


Trace = Annotated[str | None, Depends(_traceparent)]
