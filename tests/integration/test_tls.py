"""TLS to broker and database, by URL: what has the right certificate works, what has not is refused."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from backend.app import db
from backend.app.errors import DatabaseAway
from backend.app.settings import settings
from backend.embedded import spawn
from backend.embedded.rabbitmq import RabbitMQ
from events.connection import connect
from events.errors import BrokerGone
from tests import oracle
from tests.certificates import Certificate, authority, certificate
from tests.plain import Plain, dsn
from tests.servers import ROOT
from tests.system import SCRIPTS, System
from tests.tls_terminator import Terminator
from tests.waiting import until


@dataclass(frozen=True)
class Broker:
    """A node that speaks TLS, and whose certificate names localhost only."""

    port: int
    account: str
    authority: Path
    stranger: Path  # an authority that did not sign its certificate

    def url(self, host: str = "localhost", **parameters: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"amqps://{self.account}@{host}:{self.port}//?{query}"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificate, Certificate]:
    """A server's certificate for localhost, and a stranger's authority."""
    place = tmp_path_factory.mktemp("pki")
    return certificate(authority(place), "server", "DNS:localhost"), authority(place / "other", "stranger")


@pytest.fixture(scope="module")
def secured(pki: tuple[Certificate, Certificate], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    server, stranger = pki
    port = spawn.free_port()
    node = RabbitMQ(
        tmp_path_factory.mktemp("rabbitmq-tls"),
        settings={
            "listeners.ssl.default": f"127.0.0.1:{port}",
            "ssl_options.cacertfile": str(server.authority),
            "ssl_options.certfile": str(server.certificate),
            "ssl_options.keyfile": str(server.key),
            "ssl_options.verify": "verify_none",
        },
    )
    node.start()
    account = f"{node.credentials.user}:{node.credentials.password}"
    yield Broker(port, account, server.authority, stranger.certificate)
    node.kill()


@pytest.fixture
def terminator(pki: tuple[Certificate, Certificate], database: str) -> Iterator[Terminator]:
    terminator = Terminator(pki[0], psycopg2.extensions.parse_dsn(dsn(database))["port"])  # type: ignore[arg-type]
    yield terminator
    terminator.close()


def through(terminator: Terminator, database: str, host: str = "localhost", **parameters: object) -> str:
    port = psycopg2.extensions.parse_dsn(dsn(database))["port"]
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{database.replace(f'127.0.0.1:{port}', f'{host}:{terminator.port}')}?{query}"


def test_the_whole_way_is_encrypted(
    database: str, secured: Broker, pki: tuple[Certificate, Certificate], terminator: Terminator, tmp_path: Path
) -> None:
    url = through(terminator, database, sslmode="verify-full", sslrootcert=pki[0].authority)
    broker = secured.url(cacertfile=secured.authority)
    with System(url, broker, tmp_path / "system", CANARY_SECONDS="1", WORKER_CONCURRENCY="2") as system:
        system.start()
        with Plain(database) as plain:
            plain.run("INSERT INTO cities (id, name) VALUES (1, 'a')")
            plain.run("INSERT INTO companies (id, name, city_id) VALUES (1, 'c', 1)")
            until(lambda: plain.all("SELECT FROM company_city_mapping") and not oracle.violations(plain), 30)
            until(lambda: plain.one("SELECT count(queue_ready) FROM observations") > 0, 20, "depths are read over TLS")
            sessions = plain.one("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'citycache %'")
        assert terminator.encrypted >= sessions >= 5
        assert terminator.refused == 0
        verified = subprocess.run(
            [str(SCRIPTS / "citycache"), "verify", "--wait", "10"],
            env={**os.environ, "DATABASE_URL": url},
            cwd=ROOT, timeout=60, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stderr


def test_a_broker_with_another_s_certificate_is_refused(secured: Broker) -> None:
    for url, why in (
        (secured.url(cacertfile=secured.stranger), "certificate verify failed"),
        (secured.url(), "certificate verify failed"),
        (secured.url("127.0.0.1", cacertfile=secured.authority), "IP address mismatch"),
    ):
        with pytest.raises(BrokerGone) as failure:
            connect(url, "test")
        assert why in str(failure.value)
        assert secured.account.partition(":")[2] not in str(failure.value)


def test_a_broker_known_by_another_name_or_unchecked_on_request(secured: Broker) -> None:
    for url in (
        secured.url("127.0.0.1", cacertfile=secured.authority, server_name_indication="localhost"),
        secured.url("127.0.0.1", verify="verify_none"),
    ):
        connect(url, "test").release()


def test_a_database_with_another_s_certificate_is_refused(
    database: str, pki: tuple[Certificate, Certificate], terminator: Terminator, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, stranger = pki
    for parameters, why in (
        ({"sslmode": "verify-full", "sslrootcert": stranger.certificate}, "certificate verify failed"),
        ({"host": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": server.authority}, "does not match host name"),
        ({"sslmode": "disable"}, "closed the connection"),
    ):
        monkeypatch.setenv("DATABASE_URL", through(terminator, database, **parameters))  # type: ignore[arg-type]
        settings.cache_clear()
        db.dispose()
        try:
            for attempt in (lambda: db.direct("test"), lambda: db.transaction().__enter__()):
                with pytest.raises(DatabaseAway) as failure:
                    attempt()
                assert why in str(failure.value)
        finally:
            db.dispose()
            settings.cache_clear()
    assert terminator.encrypted == 0 or terminator.refused > 0
