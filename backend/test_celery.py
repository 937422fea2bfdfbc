"""Start each documented task on a running system through its HTTP API, and report how each ended.

    cd backend && python test_celery.py

API_URL names the system (default http://localhost:8000), API_KEY its key where it has one. The caches are emptied on
the way and filled again by `refresh_all_caches`, which comes last; `--skip clear_all_caches` leaves them alone. The
replay is a dry run. Needs nothing but Python. Exit codes: 0 every task ended well, 1 one did not, 2 wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

__test__ = False  # a command for operators, no module of pytest

TASKS: dict[str, dict[str, Any]] = {  # in this order, with the body of each request
    "update_product_city_cache": {},
    "update_company_city_cache": {},
    "update_cities_product_count": {},
    "replay_events": {"dry_run": True},
    "clear_all_caches": {},
    "refresh_all_caches": {},
}
NOT_EVERYWHERE = {"replay_events"}  # a system without a log of events has none
NOT_HERE = (404, 405, 409, 501)  # how such a system says so
GOOD = ("SUCCESS", "SKIPPED")
UNAVAILABLE = 503  # a server behind the API is away for the moment: the run goes on
FINAL = (*GOOD, "FAILURE", "REVOKED", "EXPIRED")
WIDEST = max(map(len, TASKS))
REQUEST_SECONDS = 10.0
MOST_BYTES = 10_000_000  # of an answer
FIRST_LOOK, LONGEST_PAUSE = 0.1, 1.0  # seconds between two looks at a run, growing


class NobodyAnswers(Exception):
    """There is no system at this address."""


class HttpRefused(Exception):
    """The system answered, but with an error."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"HTTP {status}: {detail}")
        self.status = status


@dataclass(frozen=True)
class Outcome:
    """How one task ended."""

    task: str
    state: str  # of the ledger, or ERROR (the API refused), or TIMEOUT
    seconds: float
    summary: str

    def __str__(self) -> str:
        return f"{self.task:<{WIDEST}}  {self.state:<8} {self.seconds:8.2f} s  {self.summary}".rstrip()


class System:
    """A running system's HTTP API."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self._key = url.rstrip("/"), key

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One call; the decoded answer. Raises NobodyAnswers or HttpRefused."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **({"X-API-Key": self._key} if self._key else {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                found: dict[str, Any] = json.loads(answer.read(MOST_BYTES))
        except urllib.error.HTTPError as failure:
            raise HttpRefused(failure.code, _detail(failure)) from None
        except (OSError, ValueError, HTTPException) as failure:
            reason = getattr(failure, "reason", failure)
            raise NobodyAnswers(f"nothing that is citycache answers at {self.url}: {reason}") from None
        if not isinstance(found, dict):
            raise NobodyAnswers(f"nothing that is citycache answers at {self.url}: {path} gives no JSON object")
        return found


def run(system: System, task: str, timeout: float) -> Outcome:
    """Start one task and wait for its end, at most `timeout` seconds."""
    begun = time.monotonic()
    try:
        started = system.call("POST", f"/api/v1/celery/tasks/{task.replace('_', '-')}", TASKS[task])
        state, summary = _await_end(system, started["task_id"], begun + timeout)
    except HttpRefused as refusal:
        absent = task in NOT_EVERYWHERE and refusal.status in NOT_HERE
        state, summary = "SKIPPED" if absent else "ERROR", str(refusal)
    return Outcome(task, state, time.monotonic() - begun, summary)


def _await_end(system: System, task_id: str, deadline: float) -> tuple[str, str]:
    pause = FIRST_LOOK
    seen = "PENDING"
    while True:
        try:
            found = system.call("GET", f"/api/v1/celery/tasks/{task_id}")
            seen = found["state"]
            if seen in FINAL:
                return seen, found.get("error") or summary_of(found.get("result"))
        except HttpRefused as refusal:
            if refusal.status != UNAVAILABLE:
                raise
        if time.monotonic() > deadline:
            return "TIMEOUT", f"still {seen}: is a worker running?"
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 1.5, LONGEST_PAUSE)


def summary_of(result: Any, widest: int = 110) -> str:
    """A result on one line: its plain values, nested ones by path, cut where it grows too long."""
    line = ", ".join(f"{name} {value}" if name else str(value) for name, value in _plain("", result))
    return line if len(line) <= widest else line[: widest - 1] + "…"


def _plain(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _plain(f"{path}.{name}" if path else str(name), inner)
    elif isinstance(value, list):
        yield path, f"[{len(value)}]"
    elif value is not None:
        yield path, value


def _detail(failure: urllib.error.HTTPError) -> str:
    """What the problem document says, else the reason phrase."""
    try:
        problem = json.loads(failure.read(MOST_BYTES))
        return str(problem.get("detail") or problem.get("title") or failure.reason)
    except (OSError, ValueError, AttributeError, HTTPException):
        return str(failure.reason)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of them; the exit code."""
    chosen = _arguments(arguments)
    address = os.environ.get("API_URL") or "http://localhost:8000"
    if urlsplit(address).scheme not in ("http", "https"):
        return _complain(f"API_URL={address!r} is no http:// or https:// address", 2)
    system = System(address, os.environ.get("API_KEY", ""))
    tasks = [task for task in TASKS if task not in chosen.skip]
    outcomes = []
    try:
        for task in tasks:
            outcomes.append(run(system, task, chosen.timeout))
            print(outcomes[-1], flush=True)
    except NobodyAnswers as failure:
        return _complain(f"{failure}\nStart it with `make up` or `docker compose up -d`, or set API_URL.", 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    good = sum(outcome.state in GOOD for outcome in outcomes)
    print(f"{good} of {len(tasks)} tasks ended well")
    if any("HTTP 401" in outcome.summary or "HTTP 403" in outcome.summary for outcome in outcomes):
        return _complain("The system wants its API key: set API_KEY, here and where it runs.", 1)
    return 0 if good == len(tasks) else 1


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="test_celery.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--timeout", type=seconds, default=120.0, help="seconds that each task may take (120)")
    parser.add_argument("--skip", action="append", choices=TASKS, default=[], help="leave this task out")
    return parser.parse_args(arguments)


def seconds(text: str) -> float:
    """An argument that is a number of seconds, at most a day."""
    number = float(text)
    if not 0 < number <= 86_400:
        raise argparse.ArgumentTypeError("must be more than 0 and at most 86400")
    return number


def _complain(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
