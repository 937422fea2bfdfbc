"""`citycache status`: what a running `up` consists of, and how far its caches lag behind the catalog."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg2
from rich.console import Console
from rich.table import Table

from backend.app import db, pipeline
from backend.app.embedded.up import read_state
from backend.app.errors import DatabaseUnfit
from backend.app.log import masked


def status(data_dir: Path) -> dict[str, Any]:
    """Addresses and process ids, and the lag: outbox rows, waiting messages, age of the oldest event in seconds.

    A number that its server does not give in time is None. Raises NotRunning.
    """
    state = read_state(data_dir)
    try:
        connection = db.connect("status", statement_ms=2_000, to=state["database_url"])
    except (psycopg2.Error, DatabaseUnfit):
        return {**state, "lag": pipeline.lag(lambda sql: None, state["broker_url"]).as_dict()}
    try:
        return {**state, "lag": pipeline.lag(pipeline.cursor_query(connection), state["broker_url"]).as_dict()}
    finally:
        connection.close()


def show(found: dict[str, Any], as_json: bool) -> None:
    """Print for a person or a script."""
    if as_json:
        print(json.dumps(found, default=str))
        return
    table = Table(show_header=False)
    for name in ("api_url", "database_url", "broker_url"):
        table.add_row(name, masked(str(found[name])))
    for name, pid in found["processes"].items():
        table.add_row(name, f"pid {pid}")
    for name, value in found["lag"].items():
        table.add_row(name, "unknown" if value is None else f"{value:g}")
    Console().print(table)
