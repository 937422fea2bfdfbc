"""The servers that benchmarks run on, private and durable, and the databases on them."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from kombu import Connection
from psycopg2 import sql

from backend.app import db, settings
from backend.app.database.migrating import migrate
from backend.embedded.postgres import Postgres
from backend.embedded.rabbitmq import RabbitMQ
from benchmarks.catalog import Size, connect, fill, run
from events import topology

QUEUES: Final = (
    topology.UPDATER.name, topology.LOG_NAME, topology.DEAD_LETTERS.name, topology.PATCHES, topology.MAINTENANCE,
)  # fmt: skip
SETTINGS: Final = {  # durable, and sized as on a server of its own; fsync and synchronous_commit stay on
    "shared_buffers": "4GB",
    "effective_cache_size": "12GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",  # PostgreSQL's default
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
    "track_commit_timestamp": "on",  # freshness is read off the commits' own instants
}


class Servers:
    """One PostgreSQL and one RabbitMQ for all benchmarks of a run; each starts when it is first asked for."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._stack = ExitStack()
        self._postgres: Postgres | None = None
        self._broker: RabbitMQ | None = None
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()

    @property
    def postgres(self) -> Postgres:
        """The database server."""
        if self._postgres is None:
            self._postgres = Postgres(self.place / "postgres", settings=SETTINGS)
            self._stack.enter_context(self._postgres)
        return self._postgres

    @property
    def broker(self) -> RabbitMQ:
        """The broker, with the production policies."""
        if self._broker is None:
            node = RabbitMQ(self.place / "rabbitmq", policies=topology.POLICIES)
            node.start()
            self._stack.callback(node.kill)
            self._broker = node
        return self._broker

    @contextmanager
    def catalog(self, size: Size) -> Iterator[str]:
        """A database with a catalog of this size and right caches, this process's settings naming it; dropped
        at the end. It is a copy of one that stays for the next benchmark."""
        template = f"catalog_{size.products}"
        if template not in self._templates:
            self._fill(template, size)
            self._templates.add(template)
        with self.database(template) as dsn:
            yield dsn

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """A copy of this database, an empty one if none is named, this process's settings naming it; dropped at the
        end."""
        name = f"bench_{next(self._numbers)}"
        self._create(name, template)
        try:
            self.use(name)
            yield self.postgres.dsn_of(name)
        finally:
            db.dispose()
            self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def use(self, database: str) -> None:
        """Let this process's settings name a database, and the broker."""
        db.dispose()
        os.environ["DATABASE_URL"] = self.postgres.url_of(database)
        os.environ["CELERY_BROKER_URL"] = self.broker.url
        settings.settings.cache_clear()

    def forget_messages(self) -> None:
        """Delete every queue of the product, with what is in it."""
        with Connection(self.broker.url) as connection:
            channel: Any = connection.default_channel
            for queue in QUEUES:
                channel.queue_delete(queue)

    def close(self) -> None:
        """Stop what runs."""
        db.dispose()
        self._stack.close()

    def _fill(self, name: str, size: Size) -> None:
        self._create(name, "template0")
        self.use(name)
        migrate()
        with connect(self.postgres.dsn_of(name)) as connection:
            run(connection, "CREATE EXTENSION pg_stat_statements")
        fill(self.postgres.dsn_of(name), size)
        db.dispose()

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY = FILE_COPY")
        self._run(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def _run(self, statement: sql.Composable) -> None:
        with connect(self.postgres.dsn_of("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute(statement)


@contextmanager
def servers() -> Iterator[Servers]:
    """Servers in a temporary folder, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="citycache-bench-", ignore_cleanup_errors=True) as folder:
        started = Servers(Path(folder))
        try:
            yield started
        finally:
            started.close()
