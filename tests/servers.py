"""Real servers for the tests, with ports and folders of their own: never a machine's shared ones."""

from __future__ import annotations

import base64
import itertools
import os
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg2
from psycopg2 import sql

from backend.embedded import spawn
from backend.embedded.postgres import USER, Postgres
from backend.embedded.rabbitmq import RabbitMQ
from tests import commands

ROOT = Path(__file__).resolve().parents[1]
CAREFREE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_prepared_transactions": "100",
}  # survives no power cut, needs not


class Databases:
    """The databases of one PostgreSQL server: copies of what was made once, one for each test."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        self._made: set[str] = set()
        self._cheapen_logins()

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """The URL of a database with the newest schema and no rows; dropped at the end, used or not."""
        with self.like("migrated", migrate) as url:
            yield url

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The URL of a database without any table."""
        with self._database("template0") as url:
            yield url

    @contextmanager
    def like(self, name: str, make: Callable[[str], None]) -> Iterator[str]:
        """The URL of a copy of what `make` has made, once for all tests, of an empty database."""
        if name not in self._made:
            self.run(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            self._create(name, "template0")
            make(self.server.url_of(name))
            self._made.add(name)
        with self._database(name) as url:
            yield url

    def run(self, statement: sql.Composable) -> None:
        """Run one statement on the server's database `postgres`, outside of a transaction."""
        connection = psycopg2.connect(self.server.dsn_of("postgres"), connect_timeout=5)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    @contextmanager
    def _database(self, template: str) -> Iterator[str]:
        name = f"test_{next(self._numbers)}"
        self._create(name, template)
        try:
            yield self.server.url_of(name)
        finally:
            self.run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create(self, name: str, template: str) -> None:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        self.run(create.format(sql.Identifier(name), sql.Identifier(template)))

    def _cheapen_logins(self) -> None:
        """Half of what a connection costs is the hashing of its password: 4,096 rounds, which guard nothing here."""
        password = urlsplit(self.server.dsn_of("postgres")).password or ""
        change = sql.SQL("SET scram_iterations = 1; ALTER USER {} PASSWORD {}")
        self.run(change.format(sql.Identifier(USER), sql.Literal(password)))


def migrate(url: str, command: str = "upgrade", revision: str = "head") -> None:
    """Bring a database to the newest schema, or another, in a process of its own as an operator would."""
    argv = [sys.executable, "-m", "alembic", "-c", "backend/alembic.ini", command, revision]
    done = commands.run(argv, {**os.environ, "DATABASE_URL": url}, patience=120)
    if done.returncode != 0:
        raise RuntimeError(f"the migration failed:\n{done.stdout}{done.stderr}")


class Vhosts:
    """The vhosts of one RabbitMQ node, made through its management API: rabbitmqctl takes a second a call."""

    def __init__(self, node: RabbitMQ) -> None:
        self.node = node
        self._numbers = itertools.count(1)

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of an empty vhost; deleted at the end with all that is in it, whoever is connected."""
        name = f"test-{next(self._numbers)}"
        self.request("PUT", f"vhosts/{name}")
        try:
            yield self.node.url_of(name)
        finally:
            self.request("DELETE", f"vhosts/{name}")

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """One call of the management API, `path` below /api."""
        account = self.node.credentials
        token = base64.b64encode(f"{account.user}:{account.password}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.node.management_port}/api/{quote(path, safe='/%?=&')}",
            method=method,
            data=body,
            headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
            return content


@contextmanager
def frozen(pid: int | None) -> Iterator[None]:
    """A process and all below it as a frozen machine: a server takes connections and never answers."""
    assert pid, "it does not run"
    pids = [pid, *spawn.descendants(pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            spawn.signal_stranger(pid, signal.SIGCONT)  # it may have ended
