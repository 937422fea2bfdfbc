"""Each compose service's very command, with its environment and from the image's files, against real local servers.

What a container would give is put in place by hand: the URLs' hosts and ports, the API's port, and /tmp.
"""

from __future__ import annotations

import graphlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2 import sql

from backend.embedded import spawn
from backend.embedded.erlang import find_server
from backend.embedded.postgres import Postgres, find_binaries
from backend.embedded.rabbitmq import RabbitMQ
from events.topology import POLICIES
from tests.contract import compose_image, compose_spec
from tests.contract.test_compose import DEVELOPMENT, ONCE, PRODUCTION, SERVERS
from tests.servers import ROOT, Vhosts
from tests.system import SCRIPTS
from tests.waiting import until

HEALTHY_WITHIN = 60.0  # seconds
MINE = {  # what a careful operator has in .env
    "RABBITMQ_DEFAULT_USER": "operator",
    "RABBITMQ_DEFAULT_PASS": "a-good-password-for-rabbitmq",
    "POSTGRES_USER": "operator",
    "POSTGRES_PASSWORD": "a-good-password-for-postgres",
    "POSTGRES_DB": "shop",
    "API_KEY": "a-good-key-for-the-api",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker with the settings of deploy/rabbitmq.conf."""
    lines = re.findall(r"(?m)^(\S+) = (.*)$", (ROOT / "deploy" / "rabbitmq.conf").read_text())
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq"), management=True, settings=dict(lines)) as node:
        yield node


class Stack:
    """One compose file's services, as processes of this machine."""

    def __init__(self, file: Path, environment: dict[str, str], place: Path, node: RabbitMQ, server: Postgres) -> None:
        services = compose_spec.load(file, environment)["services"]
        self.services = {name: service for name, service in services.items() if service.get("scale") != 0}
        self.place, self.node, self.server = place, node, server
        self.port = spawn.free_port()
        self.app = place / "app"
        self._processes: dict[str, spawn.Process] = {}
        compose_image.lay_out(self.app)

    def order(self) -> list[str]:
        """The services in an order that their dependencies allow."""
        names = {name: service.get("depends_on", {}) for name, service in self.services.items()}
        return list(graphlib.TopologicalSorter(names).static_order())

    def prepare_servers(self) -> None:
        """What the servers' images make of their environment at the first start: user, vhost, database."""
        asked = self.services["rabbitmq"]["environment"]
        vhost, user = quote(asked["RABBITMQ_DEFAULT_VHOST"], safe=""), asked["RABBITMQ_DEFAULT_USER"]
        account = {"password": asked["RABBITMQ_DEFAULT_PASS"], "tags": "administrator"}
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        management = Vhosts(self.node)
        management.request("DELETE", f"vhosts/{vhost}")
        management.request("PUT", f"vhosts/{vhost}")
        management.request("PUT", f"users/{user}", json.dumps(account).encode())
        management.request("PUT", f"permissions/{vhost}/{user}", json.dumps(everything).encode())
        self._prepare_database(self.services["postgres"]["environment"])

    def start(self, name: str) -> None:
        """Run the service's command; a one-shot has ended well when this returns."""
        service = self.services[name]
        process = spawn.spawn(
            [SCRIPTS / service["command"][0], *map(self._here, service["command"][1:])],
            log=self.log(name),
            env=self.environment(name),
            cwd=self.app,
        )
        self._processes[name] = process
        if name in ONCE:
            assert process.wait(60) == 0, f"{name}:\n{self.log(name).read_text()}"

    def await_health(self, name: str) -> None:
        """Until the service's own health check says that it is well."""

        def is_well() -> bool:
            check = self.check_health(name)
            self.said = f"{check.stdout}{check.stderr}\n{spawn.tail(self.log(name), 40)}"
            assert name in SERVERS or self._processes[name].poll() is None, f"{name} ended: {self.said}"
            return check.returncode == 0

        try:
            until(is_well, HEALTHY_WITHIN, f"{name} is healthy")
        except AssertionError as late:
            raise AssertionError(f"{late}: {self.said}") from late

    def check_health(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run the health check once."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        return subprocess.run(
            ["sh", "-c", self._here(words[0])] if kind == "CMD-SHELL" else list(map(self._here, words)),
            env=self.environment(name),
            cwd=self.app,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def stop(self, name: str) -> None:
        """What `docker compose stop` does; the process must end within the service's grace period."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(seconds(self.services[name].get("stop_grace_period", "10s")))

    def kill(self) -> None:
        """End whatever is left."""
        for process in self._processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def environment(self, name: str) -> dict[str, str]:
        """The service's environment and what its image has, with hosts and ports of this machine."""
        asked = {key: self._here(value) for key, value in self.services[name]["environment"].items()}
        places = {"rabbitmq": find_server().parent, "postgres": find_binaries()}
        path = f"{places.get(name, SCRIPTS)}:/usr/local/bin:/usr/bin:/bin"
        if name == "rabbitmq":
            return {**self.node._environment(), "PATH": f"{path}:{os.environ['PATH']}"}
        if name == "postgres":
            return {**asked, "PATH": path, "PGPORT": str(self.server.port), "PGCONNECT_TIMEOUT": "5"}
        temporary = self.place / name
        temporary.mkdir(exist_ok=True)
        ours = {
            "PULSE_FILE": str(temporary / Path(asked["PULSE_FILE"]).name),
            "RABBITMQ_MANAGEMENT_URL": f"http://127.0.0.1:{self.node.management_port}",
            "PYTHONPATH": str(self.app),  # before this checkout, which the venv knows
        }
        return {**asked, "PATH": path, "HOME": str(self.app), "PYTHONDONTWRITEBYTECODE": "1", **ours}

    def log(self, name: str) -> Path:
        return self.place / f"{name}.log"

    def _here(self, text: str) -> str:
        """Only what names a host and port, or the API's port, changes."""
        text = text.replace("rabbitmq:5672", f"127.0.0.1:{self.node.port}")
        text = text.replace("postgres:5432", f"127.0.0.1:{self.server.port}")
        return re.sub(r"(?<!\d)8000(?!\d)", str(self.port), text).replace("0.0.0.0", "127.0.0.1")

    def _prepare_database(self, asked: dict[str, str]) -> None:
        user, database = sql.Identifier(asked["POSTGRES_USER"]), sql.Identifier(asked["POSTGRES_DB"])
        connection = psycopg2.connect(self.server.dsn_of("postgres"), connect_timeout=5)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (asked["POSTGRES_USER"],))
            verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
            role = sql.SQL("{} ROLE {} SUPERUSER LOGIN PASSWORD {}")
            cursor.execute(role.format(verb, user, sql.Literal(asked["POSTGRES_PASSWORD"])))
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (asked["POSTGRES_DB"],))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))
        connection.close()


@pytest.fixture(params=[(PRODUCTION, MINE), (DEVELOPMENT, {})], ids=lambda given: given[0].name)
def stack(request: pytest.FixtureRequest, tmp_path: Path, node: RabbitMQ) -> Iterator[Stack]:
    """All services of one file, none started; PostgreSQL has the settings that the file gives it."""
    file, environment = request.param
    words = compose_spec.load(file)["services"]["postgres"]["command"][1:]
    settings = dict(word.removeprefix("--").split("=", 1) for word in words)
    with Postgres(tmp_path / "postgres", settings=settings) as server:
        stack = Stack(file, environment, tmp_path, node, server)
        try:
            yield stack
        finally:
            stack.kill()


def test_every_service_becomes_healthy_by_its_own_check_and_stops_in_time(stack: Stack) -> None:
    # Given servers as their images make them
    stack.prepare_servers()

    # When all services start in the order that depends_on gives
    order = stack.order()
    for name in order:
        if name not in SERVERS:
            stack.start(name)
        if name not in ONCE:
            stack.await_health(name)

    # Then the broker has the policies, each documented task runs, and all end when they are asked to
    stack.start("broker-policies")  # again, as with every `docker compose up`
    assert policies_of(stack) == POLICIES
    walked = walk(stack)
    assert walked.returncode == 0, walked.stdout + walked.stderr + stack.log("celery-worker").read_text()
    for name in reversed(order):
        if name not in SERVERS | ONCE:
            stack.stop(name)


def policies_of(stack: Stack) -> dict[str, Any]:
    """As the broker reports them, in the form of events.topology."""
    vhost = quote(stack.services["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_VHOST"], safe="")
    found = json.loads(Vhosts(stack.node).request("GET", f"policies/{vhost}"))
    return {policy["name"]: {key: policy[key] for key in ("pattern", "apply-to", "definition")} for policy in found}


def walk(stack: Stack) -> subprocess.CompletedProcess[str]:
    """`python test_celery.py` against the stack's API."""
    return subprocess.run(
        [sys.executable, "test_celery.py", "--timeout", "60"],
        cwd=stack.app / "backend",
        env={**stack.environment("backend"), "API_URL": f"http://127.0.0.1:{stack.port}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def seconds(duration: str) -> float:
    """A duration of the Compose Specification."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration))
