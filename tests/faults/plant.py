"""The running system with what a test of faults asks of it: plain SQL, the lag, the oracle."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg2

from backend.app.health import lag as pipeline
from backend.embedded import spawn
from tests import commands, oracle
from tests.background import background
from tests.faults.proxy import Proxy
from tests.plain import Plain
from tests.servers import Databases, Vhosts
from tests.system import EVERYTHING, SCRIPTS, System

QUIET: Final = {"OBSERVER": "false", "WORKER_CONCURRENCY": "2"}  # no canary, no auditor who mends what was lost
ZERO: Final = {"outbox_rows": 0, "queue_messages": 0, "oldest_event_seconds": 0.0}


class Plant(System):
    """A system whose processes may reach their servers through proxies, while the test reaches them directly."""

    def __init__(
        self,
        database: str,
        broker: str,
        place: Path,
        *,
        database_through: str | None = None,
        broker_through: str | None = None,
        **environment: str,
    ) -> None:
        """`…_through` are the URLs that the processes get, where those differ from the servers' own."""
        super().__init__(database_through or database, broker_through or broker, place, **environment)
        self.servers = (database, broker)

    def sql(self) -> Plain:
        """A connection past all proxies."""
        return Plain(self.servers[0])

    def lag(self) -> dict[str, Any]:
        """How far the caches lag, as `citycache status` says it."""
        with self.sql() as plain:
            return pipeline.lag(pipeline.cursor_query(plain.connection), self.servers[1]).as_dict()

    def drain(self, deadline: float = 60) -> float:
        """Wait until the lag is zero in every respect; the seconds it took."""
        try:
            return self.wait_until(self._is_drained, deadline, "the lag is zero")
        except AssertionError as failure:
            raise AssertionError(f"the lag is {self.lag()}: {failure}") from None

    def violations(self) -> list[str]:
        """What the oracle finds wrong in the caches."""
        return oracle.of(self.servers[0])

    def command(self, *arguments: str, patience: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `citycache …` to its end."""
        return commands.run([SCRIPTS / "citycache", *arguments], self.environment, cwd=self.code, patience=patience)

    def get(self, path: str) -> dict[str, Any]:
        """GET from the API, the whole path; what it answers. Raises HTTPError for a refusal."""
        with urllib.request.urlopen(self.api_url + path, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """POST to the API, `path` below /api/v1; what it answers."""
        request = urllib.request.Request(
            f"{self.api_url}/api/v1/{path}",
            method="POST",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def begin(self, name: str) -> None:
        """Start a part without waiting for it."""
        self._processes[name] = spawn.spawn(
            self._commands()[name](name), log=self._log(name), env=self._environment(name), cwd=self.code
        )

    def process(self, name: str) -> spawn.Process:
        """A started part."""
        return self._processes[name]

    def suspend(self, name: str) -> None:
        """SIGSTOP to a part, not to its children."""
        spawn.signal_stranger(self.pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        spawn.signal_stranger(self.pid(name), signal.SIGCONT)

    def children(self, name: str) -> list[int]:
        """The processes below a part."""
        return spawn.descendants(self.pid(name))

    def started(self, names: Iterable[str] = EVERYTHING) -> Plant:
        """Start these parts and wait until a change has gone all the way through."""
        self.start(names)
        with self.sql() as plain:
            plain.run("INSERT INTO cities (external_id, name) VALUES ('first', 'first')")
            self.wait_until(
                lambda: plain.one("SELECT EXISTS (SELECT FROM city_counts)"), 60, "a first change goes through"
            )
        return self

    @contextmanager
    def writing(self, statement: str, rows: int, seconds: float) -> Iterator[None]:
        """Meanwhile a connection of its own runs a statement for so many rows, every so many seconds."""

        def write(stop: threading.Event) -> None:
            with self.sql() as writer:
                due = time.monotonic()
                while not stop.wait(max(0.0, due - time.monotonic())):
                    writer.run(statement, [rows])
                    due += seconds

        with background(write):
            yield

    def _environment(self, name: str) -> dict[str, str]:
        """Of a part that begins."""
        return self.environment

    def _is_drained(self) -> bool:
        try:
            return self.lag() == ZERO
        except psycopg2.OperationalError:
            return False


@contextmanager
def plant_on(
    databases: Databases,
    vhosts: Vhosts,
    place: Path,
    database_proxy: Proxy | None = None,
    broker_proxy: Proxy | None = None,
    **environment: str,
) -> Iterator[Plant]:
    """A system on a database and a vhost of its own, on servers that others use as well; nothing started yet."""
    with databases.migrated() as database, vhosts.fresh() as broker:
        through = {
            "database_through": database_proxy and database_proxy.url(database),
            "broker_through": broker_proxy and broker_proxy.url(broker),
        }
        with Plant(database, broker, place, **through, **QUIET | environment) as plant:
            yield plant
