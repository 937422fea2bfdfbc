"""`citycache status`: how all is, what a running `up` consists of, and how far the caches lag behind the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import click
import psycopg2

from backend.app import db
from backend.app.commands.data_dir import USUAL
from backend.app.errors import CitycacheError, DatabaseUnfit
from backend.app.health import lag, readiness
from backend.app.relay import event_log
from backend.app.settings import settings
from backend.app.telemetry.logs import masked
from backend.embedded.errors import NotRunning
from backend.embedded.state_file import read_state

OPENER: Final = build_opener(ProxyHandler({}))  # it is on this machine
READY_SECONDS: Final = 3.0
MOST_BYTES: Final = 1_000_000  # of an answer
UNKNOWN: Final = "unknown"
NAMES: Final = 20  # letters of the longest name


@click.command()
@click.option(
    "--data-dir", default=None, type=click.Path(path_type=Path), help="Of a running `up`.  [default: .citycache]"
)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status_command(data_dir: Path | None, as_json: bool) -> None:
    """Show how all is: addresses, processes, and how far the caches lag behind.

    Where no `up` runs, as in a container, the servers of DATABASE_URL and CELERY_BROKER_URL are asked.
    """
    show(status(data_dir), as_json)


def status(data_dir: Path | None) -> dict[str, Any]:
    """Addresses, processes, health, and the lag: outbox rows, waiting messages, age of the oldest event in seconds.

    That of the `up` on `data_dir`. Where no folder is asked for and nothing runs on the usual one, that of the servers
    which the environment names. What nobody knows is None. Raises NotRunning, DatabaseUnfit.
    """
    try:
        state = read_state(data_dir or USUAL)
    except NotRunning:
        if data_dir or not settings().database_url:
            raise
        return _of_servers(settings().database_url, settings().celery_broker_url)
    return {
        **state,
        "health": health_at(state["api_url"]),
        "lag": _lag(state["database_url"], state["broker_url"]),
        "log": _log(state["database_url"]),
    }


def _of_servers(database_url: str, broker_url: str) -> dict[str, Any]:
    """Nobody says here which processes there are: health is judged from what they leave behind."""
    return {
        "api_url": None,
        "database_url": database_url,
        "broker_url": broker_url,
        "processes": None,
        "health": readiness.now(),
        "lag": _lag(database_url, broker_url),
        "log": _log(database_url),
    }


def _lag(database_url: str, broker_url: str) -> dict[str, Any]:
    try:
        connection = db.connect("status", statement_ms=2_000, to=database_url)
    except (psycopg2.Error, DatabaseUnfit):
        return lag.lag(lambda sql: None, broker_url).as_dict()
    with closing(connection):
        return lag.lag(lag.cursor_query(connection), broker_url).as_dict()


def _log(database_url: str) -> dict[str, Any] | None:
    """The log of events: its source, since when it has all of them, why it is no stream; None: nobody knows."""
    try:
        return asdict(event_log.chosen(database_url))
    except (psycopg2.Error, CitycacheError):
        return None


def health_at(api_url: str) -> dict[str, Any] | None:
    """What readiness answers; None when nobody answers in time, or nobody that is citycache."""
    try:
        with _ready_or_not(f"{api_url}/health/ready") as answer:
            found = json.loads(answer.read(MOST_BYTES))
    except (OSError, ValueError, HTTPException):
        return None
    return found if isinstance(found, dict) else None


def _ready_or_not(url: str) -> Any:
    try:
        return OPENER.open(url, timeout=READY_SECONDS)
    except HTTPError as refusal:
        return refusal


def verdict(health: dict[str, Any] | None) -> Iterator[str]:
    """How all is, in sentences: first the whole, then each part that is not well."""
    parts = (health or {}).get("parts") or []
    bad, unknown = ([part for part in parts if part["state"] == state] for state in ("bad", "unknown"))
    if not parts:
        yield "Unknown: nobody answers."
    elif not bad:
        yield "All is well." if not unknown else "Nothing is known to be wrong."
    else:
        yield f"{len(bad)} {'thing needs' if len(bad) == 1 else 'things need'} you: {', '.join(_names(bad))}."
    for part in bad:
        yield f"{part['name']}: {part['effect']} {part['advice']}"
    if unknown:
        yield f"Not known now: {', '.join(_names(unknown))}."


def _names(parts: list[dict[str, Any]]) -> list[str]:
    return [part["name"] for part in parts]


def show(found: dict[str, Any], as_json: bool) -> None:
    """Print for a person or a script."""
    if as_json:
        print(json.dumps(found, default=str))
        return
    for sentence in verdict(found["health"]):
        print(sentence)
    for name, value in _facts(found):
        print(f"{name:{NAMES}}  {value}")


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """One a line, so that an address can be copied as a whole."""
    for name in ("api_url", "database_url", "broker_url"):
        yield name, masked(found[name] or UNKNOWN)
    for name, pid in (found["processes"] or {}).items():
        yield name, f"pid {pid}"
    if found["processes"] is None:
        yield "processes", UNKNOWN
    yield "reads", (found["health"] or {}).get("reads") or UNKNOWN
    yield "log", _log_in_words(found["log"])
    for name, value in found["lag"].items():
        yield name, UNKNOWN if value is None else f"{value:g}"


def _log_in_words(log: dict[str, Any] | None) -> str:
    if log is None or log["source"] is None:
        return UNKNOWN
    since = f" since {log['since']:%Y-%m-%dT%H:%M:%SZ}" if log["since"] else ""
    return f"{log['source']}{since}" + (f": the broker has no stream: {log['reason']}" if log["reason"] else "")
