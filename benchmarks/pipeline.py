"""The product as in production: a relay and a worker as processes of their own, on real servers."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg2.extensions
from kombu import Connection

from backend.embedded import spawn
from backend.embedded.supervisor import Child, program
from benchmarks.catalog import connect, run
from benchmarks.servers import Servers
from events import topology

PATIENCE: Final = 60.0  # seconds for processes to start
POLL: Final = 0.02
ALL: Final = ("relay", "worker")
APPLIED: Final = (
    "SELECT coalesce(sum((result->>'events')::bigint), 0)::bigint FROM task_runs WHERE task = 'apply_catalog_events'"
)
RUN: Final = "SELECT state, result, error FROM task_runs WHERE task_id = %(task_id)s::uuid"
_numbers = itertools.count(1)


class NotDone(RuntimeError):
    """Something did not happen within its time."""


class Pipeline:
    """Relay and worker on one database; `applied` says how many events they have brought into the caches."""

    def __init__(self, servers: Servers, dsn: str) -> None:
        self._broker = servers.broker.url
        self._dsn = dsn
        self._folder = servers.place / f"pipeline-{next(_numbers)}"
        urls = {"DATABASE_URL": dsn, "CELERY_BROKER_URL": self._broker, "PYTHONUNBUFFERED": "1"}
        self._environment = {**os.environ, **urls, "OBSERVER": "false", "RATE_LIMIT_PER_SECOND": "0"}
        self._port = spawn.free_port()
        self._children: dict[str, Child] = {}

    def start(self, *names: str) -> None:
        """Start these parts and wait until they work."""
        commands = {
            "relay": [program("citycache"), "relay"],
            "worker": [
                program("celery"),
                "-A",
                "backend.app.celery_app",
                "worker",
                "--hostname",
                f"{self._folder.name}@bench",
            ],
            "api": [program("uvicorn"), "backend.app.main:app", "--port", str(self._port), "--no-access-log"],
        }
        for name in names:
            child = Child(name, commands[name], self._folder / f"{name}.log", self._environment)
            child.begin()
            self._children[name] = child
        for name in names:
            ready = {"relay": self._leads, "worker": self._consumes, "api": self._answers}[name]
            self.wait(ready, PATIENCE, f"the {name} starts")

    @property
    def api_port(self) -> int:
        """Where the API is, if it was started."""
        return self._port

    @property
    def api_url(self) -> str:
        """The same as an address."""
        return f"http://127.0.0.1:{self._port}"

    def stop(self) -> None:
        """End all parts."""
        for child in self._children.values():
            child.terminate()
        deadline = time.monotonic() + 15
        while any(child.pid for child in self._children.values()) and time.monotonic() < deadline:
            time.sleep(POLL)
        for child in self._children.values():
            child.kill()

    def pids(self) -> dict[str, int]:
        """Process ids by part; the worker's children are `child-1` and so on."""
        found = {name: child.pid for name, child in self._children.items() if child.pid}
        children = spawn.descendants(found["worker"]) if "worker" in found else []
        return found | {f"child-{number}": pid for number, pid in enumerate(children, 1)}

    def drain(self, events: int, patience: float = 600) -> float:
        """Wait until this many events are in the caches since the database was made; seconds."""
        begun = time.monotonic()
        with connect(self._dsn) as connection:
            self.wait(lambda: self.applied(connection) >= events, patience, f"{events} events are applied")
        return time.monotonic() - begun

    def applied(self, connection: psycopg2.extensions.connection) -> int:
        """Events whose patches are committed; events of batches that were repeated count again."""
        return int(run(connection, APPLIED)[0][0])

    def wait(self, until: Callable[[], bool], patience: float, what: str) -> None:
        """Wait; raises NotDone with the logs' ends."""
        deadline = time.monotonic() + patience
        while not until():
            dead = [name for name, child in self._children.items() if not child.pid]
            if dead or time.monotonic() > deadline:
                what = f"{' and '.join(dead)} died before {what}" if dead else what
                tails = "\n".join(f"--- {name}\n{spawn.tail(child.log, 20)}" for name, child in self._children.items())
                raise NotDone(f"not within {patience:g} s: {what}\n{tails}")
            time.sleep(POLL)

    def _leads(self) -> bool:
        return "relay leads" in spawn.tail(self._children["relay"].log, 50)

    def _answers(self) -> bool:
        return not spawn.is_free(self._port)

    def _consumes(self) -> bool:
        try:
            with Connection(self._broker) as connection:
                return bool(_channel(connection).queue_declare(topology.UPDATER.name, passive=True).consumer_count)
        except connection.channel_errors:
            return False


def _channel(connection: Connection) -> Any:
    return connection.default_channel  # its methods lack types


def run_task(connection: psycopg2.extensions.connection, task: str, patience: float = 1800, **arguments: Any) -> Any:
    """Queue a documented task, wait until it has ended well; its result, from the ledger. Raises NotDone."""
    from backend.app.celery_app import app

    app.loader.import_default_modules()
    started = app.tasks[task].apply_async(kwargs=arguments, headers={"trigger": "cli"})
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        state, result, error = run(connection, RUN, {"task_id": started.id})[0]
        if state == "SUCCESS":
            return result
        if state not in ("PENDING", "STARTED", "RETRY"):
            raise NotDone(f"{task} ended as {state}: {error or result}")
        time.sleep(POLL)
    raise NotDone(f"{task} did not end within {patience:g} s")


@contextmanager
def pipeline(servers: Servers, dsn: str, names: Sequence[str] = ALL) -> Iterator[Pipeline]:
    """A started pipeline on fresh queues."""
    servers.forget_messages()
    started = Pipeline(servers, dsn)
    try:
        started.start(*names)
        yield started
    finally:
        started.stop()


def wrong_rows() -> dict[str, Any]:
    """What `citycache verify` finds wrong, by table; empty when all caches agree. This process's settings count."""
    from backend.app.commands.verify import verify

    agrees, report = verify(wait=5)
    return {} if agrees else {str(line["table"]): line for line in report}
