"""`citycache status`: what a running `up` consists of, and how far its caches lag behind the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import psycopg2
from rich.console import Console
from rich.table import Table

from backend.app import db
from backend.app.errors import DatabaseUnfit
from backend.app.health import lag
from backend.app.telemetry.logs import masked
from backend.embedded.up import read_state

OPENER: Final = build_opener(ProxyHandler({}))  # it is on this machine
READY_SECONDS: Final = 3.0


def status(data_dir: Path) -> dict[str, Any]:
    """Addresses and process ids, and the lag: outbox rows, waiting messages, age of the oldest event in seconds.

    A number that its server does not give in time is None. Raises NotRunning.
    """
    state = read_state(data_dir)
    state = {**state, "health": _health(state["api_url"])}
    try:
        connection = db.connect("status", statement_ms=2_000, to=state["database_url"])
    except (psycopg2.Error, DatabaseUnfit):
        return {**state, "lag": lag.lag(lambda sql: None, state["broker_url"]).as_dict()}
    try:
        return {**state, "lag": lag.lag(lag.cursor_query(connection), state["broker_url"]).as_dict()}
    finally:
        connection.close()


def _health(api_url: str) -> dict[str, Any] | None:
    """What readiness answers; None when nobody answers in time."""
    try:
        with OPENER.open(f"{api_url}/health/ready", timeout=READY_SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except HTTPError as refusal:
        refused: dict[str, Any] = json.load(refusal)
        return refused
    except (OSError, ValueError):
        return None


def verdict(health: dict[str, Any] | None) -> Iterator[str]:
    """How all is, in sentences: first the whole, then each part that is not well."""
    parts = (health or {}).get("parts") or []
    bad, unknown = ([part for part in parts if part["state"] == state] for state in ("bad", "unknown"))
    if not parts:
        yield "Unknown: the API does not answer."
    elif not bad:
        yield "All is well." if not unknown else "Nothing is known to be wrong."
    for part in bad:
        yield f"{part['name']}: {part['effect']} {part['advice']}"
    if unknown:
        yield f"Not known now: {', '.join(part['name'] for part in unknown)}."


def show(found: dict[str, Any], as_json: bool) -> None:
    """Print for a person or a script."""
    if as_json:
        print(json.dumps(found, default=str))
        return
    for sentence in verdict(found["health"]):
        print(sentence)
    table = Table(show_header=False)
    for name in ("api_url", "database_url", "broker_url"):
        table.add_row(name, masked(str(found[name])))
    for name, pid in found["processes"].items():
        table.add_row(name, f"pid {pid}")
    for name, value in found["lag"].items():
        table.add_row(name, "unknown" if value is None else f"{value:g}")
    Console().print(table)
