"""Where there is no RabbitMQ: one process, the same feed, the same right answer, also over a `kill -9`."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from backend.embedded.supervisor import program
from tests.acceptance.test_up import Running, is_live

FEED = Path(__file__).parents[1] / "data" / "techconf"
COUNTS = """
    SELECT external_id, products_count, services_count, companies_count
      FROM cities JOIN city_counts ON city_id = id"""


def expected() -> dict[str, tuple[int, ...]]:
    with (FEED / "expected.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))[1:]
    return {city: tuple(map(int, numbers)) for city, *numbers in rows}


def counted(running: Running) -> dict[str, tuple[int, ...]]:
    return {city: numbers for city, *numbers in running.query(COUNTS) for numbers in [tuple(numbers)]}


def run(running: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DATABASE_URL": running.database_url}
    command = [program("citycache"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def agrees(running: Running) -> None:
    """All rows of all caches, at one moment, within a minute."""
    assert run(running, "verify", "--wait", "60").returncode == 0
    assert run(running, "verify").returncode == 0


def post(running: Running, task: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{running.port}/api/v1/celery/tasks/{task}"
    asked = urllib.request.Request(url, data=b"{}", headers={"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    with Running(tmp_path_factory.mktemp("inprocess") / "data", RABBITMQ_SERVER="/nowhere/rabbitmq-server") as running:
        yield running


def test_says_what_is_missing_and_runs_in_one_process(running: Running):
    processes = running.status()["processes"]
    assert "No rabbitmq-server found" in running.said()
    assert "nobody else can hear the events" in running.said()
    assert len({processes[name] for name in ("api", "relay", "worker", "beat")}) == 1


def test_gives_the_right_answer_to_the_real_feed_over_a_kill(running: Running):
    # Given a feed on its way into the database, and the one process killed in the middle of it
    environment = os.environ | {"DATABASE_URL": running.database_url}
    feed = subprocess.Popen([program("citycache"), "import", FEED / "changes.jsonl.gz"], env=environment)
    running.wait_until(lambda: running.query("SELECT count(*) > 1000 FROM products")[0][0], 60)
    os.kill(running.state()["processes"]["relay"], signal.SIGKILL)
    assert feed.wait(120) == 0

    # When it has come up again, by itself
    running.wait_until(lambda: is_live(running.port), 30)

    # Then the caches hold the right answer, and no rebuild has run
    running.wait_until(lambda: counted(running) == expected(), 60)
    assert run(running, "verify", "--wait", "10").returncode == 0
    rebuilds = "SELECT count(*) FROM task_runs WHERE task LIKE 'update%' OR task LIKE 'refresh%'"
    assert running.query(rebuilds) == [(0,)]


def test_still_has_the_right_answer_after_all_of_it_was_killed(running: Running):
    with running.sql() as sql:
        sql.run("UPDATE companies SET is_active = false WHERE id % 10 = 0")
    running.end(signal.SIGKILL)
    running.start()
    agrees(running)


def test_runs_the_documented_tasks(running: Running):
    assert post(running, "refresh-all-caches")[0] == 202
    ended = "SELECT state FROM task_runs WHERE task = 'refresh_all_caches' AND state = 'SUCCESS'"
    running.wait_until(lambda: bool(running.query(ended)), 30)


def test_replays_what_the_caches_have_forgotten(running: Running):
    assert post(running, "clear-all-caches")[0] == 202
    running.wait_until(lambda: running.query("SELECT count(*) FROM product_city_mapping") == [(0,)], 60)
    dry = json.loads(run(running, "replay", "--json", "--dry-run").stdout)
    assert dry["would_change"]["product_city_mapping"] > 1000

    status, started = post(running, "replay-events")

    assert status == 202
    ended = f"SELECT result FROM task_runs WHERE task_id = '{started['task_id']}' AND state = 'SUCCESS'"
    running.wait_until(lambda: bool(running.query(ended)), 60)
    agrees(running)
    assert running.query(ended)[0][0]["events"] == running.query("SELECT count(*) FROM event_log")[0][0]
    assert json.loads(run(running, "replay", "--json").stdout)["rows_changed"] == 0
