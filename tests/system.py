"""The system under test as an operator runs it: one process a part, by the documented commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from backend.embedded import spawn
from tests.servers import ROOT
from tests.waiting import until

START_SECONDS = 90.0  # for the API's first answer, also of the first process of a session, which loads the libraries
EVERYTHING = ("api", "relay", "worker", "beat")
SCRIPTS = Path(sys.executable).parent


class System:
    """API, relay, worker and beat as processes; each can be started, killed and looked at by its name."""

    def __init__(self, database: str, broker: str, place: Path, **environment: str) -> None:
        """`place` takes logs and beat's schedule; `environment` goes over this process's."""
        self.database, self.broker, self.place = database, broker, place
        self.code = ROOT
        self.port = spawn.free_port()
        self.api_url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "DATABASE_URL": database,
            "CELERY_BROKER_URL": broker,
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._processes: dict[str, spawn.Process] = {}

    def start(self, names: Iterable[str] = EVERYTHING) -> None:
        """Start these parts; the API has answered when this returns, the others are on their way."""
        names = list(names)
        for name in names:
            self._processes[name] = spawn.spawn(
                self._commands()[name.partition("-")[0]](name),
                log=self._log(name),
                env=self.environment,
                cwd=self.code,
            )
        if "api" in names:
            self.wait_until(self.is_live, START_SECONDS, "the API is live")

    def stop(self, names: Iterable[str] | None = None, patience: float = 15) -> None:
        """SIGTERM to these parts (or all), last started first; SIGKILL to their groups after `patience` s."""
        for name in reversed(list(names or self._processes)):
            process = self._processes.pop(name, None)
            if process is not None:
                process.terminate()
                if not _ended(process, patience):
                    _kill_group(process)

    def kill(self, name: str) -> None:
        """SIGKILL to this part and its children at once."""
        _kill_group(self._processes.pop(name))

    def pid(self, name: str) -> int:
        """The process id of a started part."""
        return self._processes[name].pid

    def runs(self, name: str) -> bool:
        """Whether this part was started and has not ended."""
        return name in self._processes and self._processes[name].poll() is None

    def log(self, name: str) -> str:
        """All that this part has written so far."""
        return self._log(name).read_text(errors="replace")

    def is_live(self) -> bool:
        """Whether the API answers."""
        try:
            with urllib.request.urlopen(f"{self.api_url}/health/live", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, HTTPException):
            return False

    def wait_until(self, predicate: Callable[[], bool], deadline: float, what: str = "") -> float:
        """Ask `predicate` until it holds; the seconds it took. AssertionError after `deadline` s."""
        try:
            return until(predicate, deadline, what)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self._all_logs()}") from late

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _commands(self) -> Mapping[str, Callable[[str], list[str]]]:
        """By kind; a second relay or worker is named `worker-2` and so on."""
        celery = [str(SCRIPTS / "celery"), "-A", "backend.app.celery_app"]
        schedule = str(self.place / "celerybeat-schedule")
        return {
            "api": lambda _: [
                str(SCRIPTS / "uvicorn"),
                "backend.app.main:app",
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
            ],
            "relay": lambda _: [str(SCRIPTS / "citycache"), "relay"],
            "worker": lambda name: [
                *celery,
                "worker",
                "--loglevel",
                "INFO",
                "--hostname",
                f"{name}-{self.port}@localhost",
            ],
            "beat": lambda _: [*celery, "beat", "--loglevel", "INFO", "--schedule", schedule, "--pidfile="],
        }

    def _log(self, name: str) -> Path:
        return self.place / f"{name}.log"

    def _all_logs(self) -> str:
        return "\n".join(f"--- {name}\n{spawn.tail(self._log(name), 25)}" for name in self._processes)


def _ended(process: spawn.Process, patience: float) -> bool:
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill_group(process: spawn.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
