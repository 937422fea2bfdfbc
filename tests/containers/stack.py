"""One compose set-up on an engine: its containers, its API, its commands."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from backend.embedded import spawn
from tests.containers.engine import Engine
from tests.containers.shell import Failed, run
from tests.waiting import until

ONCE = ("migrate", "broker-policies")
PATIENCE = 240.0  # seconds until all are healthy, on a machine that does other things as well
KEY = "a-key-of-the-containers-walk"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Container:
    """One of a service."""

    id: str
    service: str
    state: str  # running, exited, …
    health: str  # healthy, unhealthy, starting; empty without a check
    pid: int
    restarts: int
    exit_code: int
    environment: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Done where it runs once, else healthy."""
        return self.exit_code == 0 if self.service in ONCE and self.state == "exited" else self.health == "healthy"


@dataclass
class Stack:
    """`files` are relative to `folder`; `variables` stand for .env."""

    engine: Engine
    files: tuple[str, ...]
    folder: Path
    variables: Mapping[str, str]
    tool: tuple[str, ...] = ("docker", "compose")
    project: str = "citycache"
    port: int = field(default_factory=spawn.free_port)
    ports: tuple[int, ...] = field(default_factory=lambda: tuple(spawn.free_port() for _ in range(3)))

    def compose(
        self, *words: object, seconds: float = PATIENCE, codes: tuple[int, ...] = (0,), given: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Run the tool's command. Raises Failed."""
        files = [word for file in self.files for word in ("-f", file)]
        command = [*self.tool, "--project-directory", str(self.folder), *files, *words]
        return run(*command, env=self._environment(), seconds=seconds, cwd=self.folder, given=given, codes=codes)

    def inside(
        self, service: str, *words: object, codes: tuple[int, ...] = (0,), given: bytes = b"", seconds: float = 180
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's container."""
        return self.compose("exec", "-T", service, *words, codes=codes, given=given, seconds=seconds)

    def containers(self, service: str = "") -> list[Container]:
        """All of them, or those of one service."""
        found = [_container(told) for told in self.engine.inspect(self.project)]
        return [one for one in found if service in ("", one.service)]

    def await_health(self, seconds: float = PATIENCE) -> None:
        """Until every container is well. Raises Failed, which names those that are not."""
        try:
            until(lambda: bool(found := self.containers()) and all(one.is_well for one in found), seconds)
        except AssertionError:
            ill = [f"{one.service} {one.state} {one.health}" for one in self.containers() if not one.is_well]
            raise Failed(f"not healthy within {seconds:g} s: {', '.join(ill)}") from None

    def kill(self, service: str) -> None:
        """SIGKILL to the main process of its container, which stands below docker-init."""
        container = self.containers(service)[0]
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        until(lambda: self.containers(service)[0].restarts > container.restarts, 60, f"{service} is started again")

    def ask(self, path: str, body: Any = None, seconds: float = 10) -> tuple[int, bytes]:
        """One request with a key: status and body; status 0 when nobody answers."""
        headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers)
        try:
            with DIRECT.open(request, timeout=seconds) as answer:
                return int(answer.status), answer.read(1 << 20) if "stream" not in path else b""
        except HTTPError as refused:
            return refused.code, refused.read()
        except (URLError, OSError, http.client.HTTPException):
            return 0, b""

    @contextmanager
    def watched(self, path: str = "/api/v1/cities?limit=1") -> Iterator[list[float]]:
        """How long reads went unanswered meanwhile: seconds of each gap, in the list at the end."""
        gaps: list[float] = []
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(path, gaps, done))
        watcher.start()
        try:
            yield gaps
        finally:
            done.set()
            watcher.join()

    def _watch(self, path: str, gaps: list[float], done: threading.Event) -> None:
        last = time.monotonic()
        while not done.wait(0.2):
            is_answered = self.ask(path, seconds=2)[0] == 200
            now = time.monotonic()
            if is_answered:
                if now - last > 1:
                    gaps.append(now - last)
                last = now

    def _environment(self) -> dict[str, str]:
        names = ("RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT", "POSTGRES_PORT")
        ports = dict(zip(names, map(str, self.ports), strict=True)) | {"API_PORT": str(self.port)}
        mine = {"API_KEY": KEY, "WORKER_CONCURRENCY": "2", "COMPOSE_PROJECT_NAME": self.project}
        return {**self.engine.environment, **ports, **mine, **self.variables}


def _container(told: dict[str, Any]) -> Container:
    state = told["State"]
    return Container(
        told["Id"],
        told["Config"]["Labels"]["com.docker.compose.service"],
        state["Status"],
        state.get("Health", {}).get("Status", ""),
        state["Pid"],
        told["RestartCount"],
        state["ExitCode"],
        tuple(told["Config"]["Env"]),
    )
