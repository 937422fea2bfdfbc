"""`backend/test_celery.py` against a scripted API: what it starts, what it prints, how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from backend.embedded import spawn
from tests.servers import ROOT

DOCUMENTED = [
    "update-product-city-cache",
    "update-company-city-cache",
    "update-cities-product-count",
    "replay-events",
    "clear-all-caches",
    "refresh-all-caches",
]


class Api(ThreadingHTTPServer):
    """Answers as the contract says; each run goes through the given states, one a look."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.started: list[tuple[str, Any]] = []
        self.keys: set[str | None] = set()
        self.states: dict[str, list[str]] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.looks = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        task = self.path.removeprefix("/api/v1/celery/tasks/")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.started.append((task, body))
        self.server.keys.add(self.headers["X-API-Key"])
        if task in self.server.refusals:
            status, detail = self.server.refusals[task]
            self._answer(status, {"title": "no", "status": status, "detail": detail})
        else:
            self._answer(202, {"task_id": task, "task": task, "state": "PENDING", "status_url": ""})

    def do_GET(self) -> None:
        task = self.path.rpartition("/")[2]
        states = self.server.states.setdefault(task, ["STARTED", "SUCCESS"])
        self.server.looks += 1
        state = states.pop(0) if len(states) > 1 else states[0]
        if state == "503":
            self._answer(503, {"detail": "the database is away"})
            return
        error = "ValueError: boom" if state == "FAILURE" else None
        self._answer(200, {"task_id": task, "state": state, "error": error, "result": {"rows": {"checked": 7}}})

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def walk(url: str, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "test_celery.py", *arguments],
        cwd=ROOT / "backend",
        env={**os.environ, "API_URL": url, "API_KEY": key},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_starts_each_documented_task_and_fills_the_caches_again_at_the_end(api: Api) -> None:
    done = walk(api.url)

    assert done.returncode == 0, done.stdout + done.stderr
    assert [task for task, _ in api.started] == DOCUMENTED
    assert dict(api.started)["replay-events"] == {"dry_run": True}
    *lines, last = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [[task.replace("-", "_"), "SUCCESS"] for task in DOCUMENTED]
    assert all("rows.checked 7" in line for line in lines)
    assert last == "6 of 6 tasks ended well"


def test_sends_the_key_that_the_environment_names(api: Api) -> None:
    walk(api.url, key="the key")

    assert api.keys == {"the key"}


@pytest.mark.parametrize("state", ["FAILURE", "REVOKED", "EXPIRED"])
def test_one_task_that_ends_badly_makes_the_exit_code_1(api: Api, state: str) -> None:
    api.states["update-company-city-cache"] = ["STARTED", state]

    done = walk(api.url)

    assert done.returncode == 1
    assert f"update_company_city_cache    {state}" in done.stdout
    assert "5 of 6 tasks ended well" in done.stdout
    if state == "FAILURE":
        assert "ValueError: boom" in done.stdout


def test_a_skipped_run_is_a_good_end(api: Api) -> None:
    api.states["update-cities-product-count"] = ["SKIPPED"]

    assert walk(api.url).returncode == 0


def test_a_run_that_nobody_takes_ends_at_the_timeout(api: Api) -> None:
    api.states["refresh-all-caches"] = ["PENDING"]

    done = walk(api.url, "--timeout", "0.5")

    assert done.returncode == 1
    assert "TIMEOUT" in done.stdout
    assert "is a worker running?" in done.stdout


def test_a_moment_of_absence_while_a_run_goes_on_is_waited_out(api: Api) -> None:
    api.states["clear-all-caches"] = ["503", "503", "SUCCESS"]

    assert walk(api.url).returncode == 0


def test_a_system_without_a_log_of_events_has_nothing_to_replay(api: Api) -> None:
    api.refusals["replay-events"] = (409, "replay needs RabbitMQ")

    done = walk(api.url)

    assert done.returncode == 0
    assert "SKIPPED" in done.stdout
    assert "replay needs RabbitMQ" in done.stdout


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_key_is_named(api: Api, status: int) -> None:
    api.refusals = dict.fromkeys(DOCUMENTED, (status, "closed"))

    done = walk(api.url)

    assert done.returncode == 1
    assert "API_KEY" in done.stderr


def test_tasks_can_be_left_out(api: Api) -> None:
    walk(api.url, "--skip", "clear_all_caches", "--skip", "replay_events")

    assert [task for task, _ in api.started] == [
        task for task in DOCUMENTED if task not in ("clear-all-caches", "replay-events")
    ]


def test_an_address_where_nothing_answers_is_said_plainly() -> None:
    url = f"http://127.0.0.1:{spawn.free_port()}"

    done = walk(url)

    assert done.returncode == 1
    assert f"answers at {url}" in done.stderr
    assert "make up" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--timeout", "0"], ["--timeout", "soon"], ["--skip", "nothing"]])
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    assert walk("http://127.0.0.1:1", *arguments).returncode == 2


def test_an_address_that_is_none_exits_with_2() -> None:
    assert walk("localhost:8000").returncode == 2


def test_pytest_collects_nothing_from_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "backend/test_celery.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 5, done.stdout  # nothing collected
