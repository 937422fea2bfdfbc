"""Short words for what an operator does with a running system, and what tests then ask."""

from __future__ import annotations

import csv
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import oracle
from tests.plain import Plain
from tests.servers import ROOT, Databases, Vhosts
from tests.system import SCRIPTS, System
from tests.waiting import until

DATA = ROOT / "tests" / "data" / "techconf"
FEED = DATA / "changes.jsonl.gz"
EXPECTED = DATA / "expected.csv"
V1 = "/api/v1"
FINAL = ("SUCCESS", "FAILURE", "SKIPPED", "EXPIRED", "REVOKED")
QUIET = {"OBSERVER": "false"}  # no canary among the rows that are counted


@contextmanager
def running(
    databases: Databases, vhosts: Vhosts, place: Path, *parts: str, **environment: str
) -> Iterator[tuple[System, Plain]]:
    """These parts of a system on a database and a vhost of their own; a worker that was asked for consumes."""
    with (
        databases.migrated() as database,
        vhosts.fresh() as broker,
        System(database, broker, place, **(QUIET | environment)) as system,
        Plain(database) as plain,
    ):
        start(system, *parts)
        yield system, plain


def start(system: System, *parts: str) -> None:
    """Start these parts; workers are ready when this returns."""
    system.start(parts)
    for part in parts:
        if part.startswith("worker"):
            system.wait_until(lambda part=part: " ready." in system.log(part), 60, f"{part} is ready")  # type: ignore[misc]


def citycache(system: System, *arguments: str, code: int = 0, stdin: bytes = b"") -> str:
    """Run a command of the command line; its standard output."""
    done = subprocess.run(
        [str(SCRIPTS / "citycache"), *arguments],
        env=system.environment,
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == code, f"{arguments} ended with {done.returncode}: {done.stdout!r} {done.stderr!r}"
    return done.stdout.decode()


def call(system: System, method: str, path: str, body: Any = None, patience: float = 30) -> Any:
    """One request, made again when the API asks for that, on a machine that is busy; the decoded answer."""
    answers: list[Any] = []

    def is_answered() -> bool:
        try:
            answers.append(_asked(system, method, path, body))
        except urllib.error.HTTPError as refusal:
            if refusal.code != 503:
                raise
        return bool(answers)

    until(is_answered, patience, f"{method} {path} is refused")
    return answers[0]


def _asked(system: System, method: str, path: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"{system.api_url}{V1}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def run_task(system: System, name: str, seconds: float = 60) -> dict[str, Any]:
    """Start a documented task over HTTP and wait for its end; the run."""
    started = call(system, "POST", f"/celery/tasks/{name}")
    assert started["state"] == "PENDING"
    run: dict[str, Any] = {}

    def ended() -> bool:
        run.update(call(system, "GET", f"/celery/tasks/{started['task_id']}"))
        return run["state"] in FINAL

    system.wait_until(ended, seconds, f"{name} ends")
    return run


def violations(plain: Plain) -> list[str]:
    """What the oracle says now."""
    return oracle.violations(plain) + oracle.snapshot_violations(plain)


def right(plain: Plain, seconds: float = 60) -> float:
    """Wait until the caches are what the catalog says and nothing is on its way any more; the seconds it took."""
    begin = time.monotonic()
    until(lambda: plain.one("SELECT NOT EXISTS (SELECT FROM event_outbox)"), seconds, "the outbox is empty")
    found: list[str] = []

    def agrees() -> bool:
        found[:] = violations(plain)
        return not found

    try:
        until(agrees, seconds)
    except AssertionError:
        raise AssertionError(f"the caches are not right after {seconds} s: {found}") from None
    return time.monotonic() - begin


def rebuilds(plain: Plain) -> int:
    """How many runs of anything but events and imports the ledger knows."""
    others = "('apply_catalog_events', 'apply_wide_patches', 'import_feed')"
    return int(plain.one(f"SELECT count(*) FROM task_runs WHERE task NOT IN {others}"))


def expected_counts() -> set[tuple[str, int, int, int]]:
    """What the feed's authors say: city, products, services, companies."""
    with EXPECTED.open(encoding="utf-8", newline="") as lines:
        return {
            (row["city_id"], int(row["products"]), int(row["services"]), int(row["companies"]))
            for row in csv.DictReader(lines)
        }


def counts(plain: Plain) -> set[tuple[Any, ...]]:
    """city_counts by external id."""
    return set(
        plain.all("""
            SELECT external_id, products_count, services_count, companies_count
              FROM city_counts LEFT JOIN cities ON id = city_id""")
    )
