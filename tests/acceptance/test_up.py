"""`citycache up`: from an empty folder to a running system, through crashes, to a clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from backend.embedded import spawn
from backend.embedded.state_file import read_state
from backend.embedded.supervisor import program
from tests.plain import Plain
from tests.waiting import until

CITYCACHE = program("citycache")
PARTS = {"api", "relay", "worker", "beat", "postgres", "rabbitmq", "forkserver"}


class Running:
    """One `citycache up` as a process, beside the folder of its data; it is up when this is made."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        command: Sequence[str | Path] = (CITYCACHE,),
        base: Mapping[str, str] | None = None,
        **environment: str,
    ) -> None:
        """`environment` goes over `base`, which is that of the tests unless it is given."""
        self.data_dir = data_dir
        self.port = spawn.free_port()
        self.output = data_dir.with_suffix(".output")
        self._command = command
        self._environment = {**(without_urls() if base is None else base), **environment}
        self._options = options
        self.start()

    def start(self) -> None:
        command = [*self._command, "up", "--port", str(self.port), "--data-dir", self.data_dir, *self._options]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.data_dir.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            self.wait_until(lambda: "citycache is up" in self.said(), 90)
        except BaseException:
            self.kill()
            raise
        self.database_url = str(self.state()["database_url"])  # `up` may have chosen another port than before

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def state(self) -> dict[str, Any]:
        """What it tells others about itself: a part of what `status` says, without a process that says it."""
        return read_state(self.data_dir)

    def status(self) -> dict[str, Any]:
        command = [*self._command, "status", "--data-dir", self.data_dir, "--json"]
        answer: dict[str, Any] = json.loads(subprocess.check_output(command, env=self._environment, timeout=30))
        return answer

    def sql(self) -> Plain:
        """A connection to its database."""
        return Plain(self.database_url)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """All rows of the answer, on a connection of its own: `up` may have been killed since."""
        with self.sql() as sql:
            return sql.all(statement)

    def wait_until(self, predicate: Callable[[], bool], seconds: float) -> None:
        def holds() -> bool:
            assert self.process.poll() is None, self.said()
            return predicate()

        try:
            until(holds, seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.said()}") from late

    def end(self, how: signal.Signals) -> int:
        """Its exit code; one that does not end in time is killed, and an AssertionError."""
        self.process.send_signal(how)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end:\n{self.said()}") from None

    def kill(self) -> None:
        """SIGKILL to it and all that it began."""
        for pid in [self.process.pid, *spawn.descendants(self.process.pid)]:
            spawn.signal_stranger(pid, signal.SIGKILL)
        self.process.wait(10)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it, unless it has ended."""
        if self.process.poll() is None:
            self.end(signal.SIGTERM)


def without_urls() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "CELERY_BROKER_URL")}


def is_live(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def again(data_dir: Path, port: int) -> subprocess.CompletedProcess[str]:
    """A second `up`, expected to end by itself."""
    return subprocess.run(
        [CITYCACHE, "up", "--port", str(port), "--data-dir", data_dir],
        env=without_urls(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("up") / "data") as running:
        yield running


def dies(running: Running, part: str) -> None:
    """It is there again soon."""
    before = running.state()["processes"][part]
    assert spawn.is_running(before), running.said()
    os.kill(before, signal.SIGKILL)
    running.wait_until(lambda: running.state()["processes"].get(part, before) != before, 20)
    running.wait_until(lambda: is_live(running.port), 20)


class TestRunning:
    def test_serves_at_its_port_and_tells_what_it_runs(self, running: Running):
        status = running.status()
        assert is_live(running.port)
        assert set(status["processes"]) == PARTS
        assert status["processes"] == running.state()["processes"]
        assert set(status["lag"]) == {"outbox_rows", "queue_messages", "oldest_event_seconds"}
        assert all(spawn.is_running(pid) for pid in status["processes"].values())

    def test_carries_a_write_into_the_caches(self, running: Running):
        with running.sql() as sql:
            sql.run(
                "WITH city AS (INSERT INTO cities (name) VALUES ('Here') RETURNING id),"
                " company AS (INSERT INTO companies (name, city_id) SELECT 'We', id FROM city RETURNING id)"
                " INSERT INTO products (name, company_id) SELECT 'It', id FROM company"
            )
            running.wait_until(lambda: sql.one("SELECT count(*) FROM product_city_mapping") == 1, 20)

    @pytest.mark.parametrize("part", sorted(PARTS - {"forkserver"}))
    def test_starts_again_what_dies(self, running: Running, part: str):
        dies(running, part)

    def test_refuses_a_second_one_on_its_folder(self, running: Running):
        second = again(running.data_dir, spawn.free_port())
        assert second.returncode == 2
        assert f"already runs on {running.data_dir} at http://127.0.0.1:{running.port}" in second.stderr
        assert is_live(running.port)

    def test_hides_its_passwords_from_others(self, running: Running):
        assert (running.data_dir / "state.json").stat().st_mode & 0o077 == 0
        assert running.data_dir.stat().st_mode & 0o077 == 0
        assert running.state()["database_url"].split(":")[2].split("@")[0] not in running.said()


@pytest.mark.alone
class TestAlone:
    def test_starts_again_all_that_dies_with_its_fork_server(self, running: Running):
        dies(running, "forkserver")


def test_finds_its_data_again_after_it_was_killed_and_ends_without_a_trace(tmp_path: Path):
    with Running(tmp_path / "data") as running:
        with running.sql() as sql:
            sql.run("INSERT INTO cities (name) VALUES ('Here')")
        pids = list(running.state()["processes"].values())
        running.end(signal.SIGKILL)
        running.start()
        assert not any(spawn.is_running(pid) for pid in pids)
        assert running.query("SELECT name FROM cities") == [("Here",)]
        pids = list(running.state()["processes"].values())
        assert running.end(signal.SIGINT) == 0
    assert not any(spawn.is_running(pid) for pid in pids)
    assert not (running.data_dir / "state.json").exists()


def test_says_what_is_missing_without_rabbitmq_and_runs_in_one_process(tmp_path: Path):
    with Running(tmp_path / "data", RABBITMQ_SERVER="/nowhere/rabbitmq-server") as running:
        (line,) = [line for line in running.said().splitlines() if "rabbitmq-server" in line]
        assert "nobody else can hear the events" in line
        assert "install" in line
        processes = running.status()["processes"]
        assert processes["api"] == processes["relay"] == processes["worker"] == processes["beat"]
        assert running.end(signal.SIGTERM) == 0


def test_names_the_port_that_is_taken(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = again(tmp_path / "data", port)
    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr


def test_status_says_when_nothing_runs(tmp_path: Path):
    command = [CITYCACHE, "status", "--data-dir", tmp_path, "--json"]
    done = subprocess.run(command, env=without_urls(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "does not run" in done.stderr
