"""With a server away, every request is answered within two seconds: 503, never a hang, never a 500."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backend.embedded import spawn
from backend.embedded.postgres import Postgres
from tests.integration.api import V1, Words, is_problem
from tests.servers import ROOT, frozen
from tests.system import System
from tests.waiting import until

pytestmark = pytest.mark.calm

NO_DATABASE = "postgresql+psycopg2://nobody:nothing@127.0.0.1:1/none"
NO_BROKER = "amqp://guest:guest@127.0.0.1:1//"
READS = (
    "/cities", "/cities/1", "/cities/1/products", "/companies", "/products/1", "/celery/tasks",
    "/caches/active-cities/products", "/caches/explain/product/1", "/events/dead-letters",
    "/celery/tasks/3f333df6-90a4-4fda-8dd3-9485d27cee36",
)  # fmt: skip
STARTS = ("/celery/tasks/clear-all-caches", "/celery/tasks/refresh-all-caches", "/celery/tasks/replay-events")


@contextmanager
def api_on(database: str, broker: str, place: Path) -> Iterator[Words]:
    with System(database, broker, place, OBSERVER="false") as system:
        system.start(["api"])
        with Words(base_url=system.api_url, timeout=4) as api:
            yield api


@contextmanager
def deaf_broker() -> Iterator[str]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}//"


def in_time(api: Words, method: str, path: str, **options: Any) -> Any:
    begin = time.monotonic()
    answer = api.request(method, path, **options)
    assert time.monotonic() - begin < 2.0, path
    return answer


def everything_is_away(api: Words) -> None:
    """All at once, twice: threads that hang must not add up."""
    requests = [("GET", V1 + path) for path in READS] + [("POST", V1 + path) for path in STARTS]
    requests += [("POST", f"{V1}/cities"), ("DELETE", f"{V1}/companies/1")]
    with ThreadPoolExecutor(40) as pool:
        pending = [
            pool.submit(in_time, api, method, path, json={"name": "a"} if path.endswith("/cities") else None)
            for method, path in requests * 3
        ]
        for one in pending:
            answer = one.result()
            is_problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
    assert in_time(api, "GET", "/health/live").status_code == 200
    assert in_time(api, "GET", "/docs").status_code == 200


def test_answers_while_the_database_is_gone(broker: str, tmp_path: Path) -> None:
    with api_on(NO_DATABASE, broker, tmp_path) as api:
        everything_is_away(api)
        ready = in_time(api, "GET", "/health/ready")
        assert (ready.status_code, ready.json()["broker"]) == (503, "ok")
        stats = in_time(api, "GET", f"{V1}/celery/stats")
        assert (stats.status_code, stats.json()["tasks"]) == (200, None)
        assert stats.json()["queues"] is not None
        assert "tasks" in stats.json()["unavailable"]
        assert 'citycache_up{server="database"} 0.0' in in_time(api, "GET", "/metrics").text


def test_answers_while_the_database_is_frozen_and_recovers(own_postgres: Postgres, broker: str, tmp_path: Path) -> None:
    # Given an API with open connections
    migrate = [str(Path(sys.executable).parent / "citycache"), "migrate"]
    environment = {**os.environ, "DATABASE_URL": own_postgres.url}
    subprocess.run(migrate, env=environment, check=True, capture_output=True, timeout=60, cwd=ROOT)
    with api_on(own_postgres.url, broker, tmp_path) as api:
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda _: api.read("/cities"), range(20)))

        # When the server freezes
        with frozen(own_postgres.pid):
            everything_is_away(api)
            assert in_time(api, "GET", "/health/ready").status_code == 503
            assert in_time(api, "GET", f"{V1}/celery/stats").status_code == 200
            assert in_time(api, "GET", "/metrics").status_code == 200

        # Then it answers again when the server does, and did nothing that it had called a failure
        until(lambda: api.get(f"{V1}/cities").status_code == 200, 10)
        assert api.read("/cities")["items"] == []
        assert in_time(api, "GET", "/health/ready").status_code == 200


@pytest.mark.parametrize("broker_is", ["gone", "deaf"])
def test_answers_while_the_broker_is_away(database: str, tmp_path: Path, broker_is: str) -> None:
    with deaf_broker() as deaf, api_on(database, NO_BROKER if broker_is == "gone" else deaf, tmp_path) as api:
        for path in STARTS:
            is_problem(in_time(api, "POST", V1 + path), 503)
        stats = in_time(api, "GET", f"{V1}/celery/stats")
        assert stats.status_code == 200
        assert (stats.json()["queues"], stats.json()["lag"]["outbox_rows"]) == (None, 0)
        assert "queues" in stats.json()["unavailable"]
        assert in_time(api, "GET", "/health/ready").status_code == 503
        assert api.post_ok("/cities", name="Berlin")["id"] == 1
        assert api.read("/cities")["items"]


def test_starts_only_with_a_database_that_is_named(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "uvicorn"), "backend.app.main:app", "--port", str(spawn.free_port())]
    environment = {**os.environ, "DATABASE_URL": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=60, cwd=ROOT, check=False)
    assert ended.returncode != 0
    assert b"DATABASE_URL is not set" in ended.stderr
