"""Fixtures of all tests: servers once a session, a database and a vhost of its own for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.app import db, settings
from backend.embedded.errors import ServerMissing
from backend.embedded.postgres import Postgres
from backend.embedded.rabbitmq import RabbitMQ
from events import topology
from tests import memory
from tests.alone import ORDER, Company, turn
from tests.servers import CAREFREE, Databases, Vhosts, migrate
from tests.system import System

END_LOAD = pytest.StashKey[Callable[[], None]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that not all others may run beside come last, files or classes of them, when few need to wait for them."""
    items.sort(key=lambda item: ORDER.index(_company(item)))
    companies: dict[str, set[Company]] = {}
    for item in items:
        parent = str(item.parent and item.parent.nodeid)
        companies.setdefault(parent, set()).add(_company(item))
    if mixed := sorted(parent for parent, found in companies.items() if len(found) > 1):
        raise pytest.UsageError(f"tests of different companies, see tests/alone.py, in {', '.join(mixed)}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test's time begins when it has its turn."""
    session = getattr(item.config, "workerinput", {}).get("testrunuid", str(os.getpid()))
    with turn(session, _company(item)) as item.stash[END_LOAD]:
        return (yield)


@pytest.fixture
def end_of_load(request: pytest.FixtureRequest) -> Callable[[], None]:
    """To be called by a test that has loaded the machine and only waits from now on: others may run beside it."""
    end: Callable[[], None] = request.node.stash[END_LOAD]
    return end


def _company(item: pytest.Item) -> Company:
    return next((company for company in ORDER if item.get_closest_marker(company)), "crowd")


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """A PostgreSQL server that the tests may use but must not stop; fsync is off."""
    with memory.folder(tmp_path_factory.mktemp("postgres")) as place:
        server = Postgres(place, settings=CAREFREE | {"max_wal_size": "512MB"})
        _start(server)
        yield Databases(server)
        server.stop()


@pytest.fixture(scope="session")
def vhosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vhosts]:
    """A RabbitMQ node that the tests may use but must not stop."""
    with memory.folder(tmp_path_factory.mktemp("rabbitmq")) as place:
        node = RabbitMQ(place, management=True)
        _start(node)
        yield Vhosts(node)
        node.kill()  # nobody needs its data: a graceful stop takes 6 s


@pytest.fixture(scope="session")
def new_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a PostgreSQL server that ended after its first start: initdb takes most of a second."""
    server = Postgres(tmp_path_factory.mktemp("new") / "postgres", settings=CAREFREE)
    _start(server)
    server.stop()
    return server.data_dir


@pytest.fixture
def own_postgres(tmp_path: Path, new_server: Path) -> Iterator[Postgres]:
    """A PostgreSQL server of the test's own, durable, to be killed and started at will."""
    shutil.copytree(new_server, tmp_path / "postgres", ignore=shutil.ignore_patterns("port", "postgres.log"))
    server = Postgres(tmp_path / "postgres")
    _start(server)
    yield server
    server.stop()


@pytest.fixture
def own_rabbitmq(tmp_path: Path) -> Iterator[RabbitMQ]:
    """A RabbitMQ node of the test's own, to be killed and started at will; takes 6 s."""
    node = RabbitMQ(tmp_path / "rabbitmq", policies=topology.POLICIES)
    _start(node)
    yield node
    node.kill()


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    """The URL of a migrated database without rows."""
    with databases.migrated() as url:
        yield url


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[str]:
    """The URL of a database without tables."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def broker(vhosts: Vhosts) -> Iterator[str]:
    """The AMQP URL of an empty vhost."""
    with vhosts.fresh() as url:
        yield url


@pytest.fixture
def configured(database: str, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process's settings name the test's database and vhost."""
    with configured_as(monkeypatch, DATABASE_URL=database, CELERY_BROKER_URL=broker):
        yield


@pytest.fixture
def configured_database(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process's settings name the test's database; there is no broker."""
    with configured_as(monkeypatch, DATABASE_URL=database):
        yield


@pytest.fixture
def configured_empty(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This process's settings name a database without tables, whose URL this is; there is no broker."""
    with configured_as(monkeypatch, DATABASE_URL=empty_database):
        yield empty_database


@pytest.fixture
def configured_own(own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """This process's settings name the test's own server, which has the newest schema; there is no broker."""
    migrate(own_postgres.url)
    with configured_as(monkeypatch, DATABASE_URL=own_postgres.url):
        yield own_postgres


@pytest.fixture
def system(database: str, broker: str, tmp_path: Path) -> Iterator[System]:
    """The whole system on the test's database and vhost, nothing started yet."""
    with System(database, broker, tmp_path / "system") as system:
        yield system


@contextmanager
def configured_as(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[None]:
    """This process's settings come from these variables, and its connections are made anew."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings.settings.cache_clear()
    yield
    db.dispose()
    settings.settings.cache_clear()


def _start(server: Postgres | RabbitMQ) -> None:
    try:
        server.start()
    except ServerMissing as missing:
        if os.environ.get("CITYCACHE_TESTS_ALLOW_MISSING") == "1" and not os.environ.get("CI"):
            pytest.skip(f"NOT TESTED: {missing}")
        pytest.fail(
            f"{missing}: `make test` installs it; CITYCACHE_TESTS_ALLOW_MISSING=1 skips these tests",
            pytrace=False,
        )
