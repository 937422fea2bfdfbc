"""Each process works with its own database role and its own user of the broker, and cannot do what it must not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import amqp
import psycopg2
import psycopg2.errors
import pytest

from backend.app.access import database_roles
from backend.app.access.broker_rights import RIGHTS
from backend.embedded.postgres import Postgres
from events import table, topology
from events.connection import connect
from events.outbox import Outbox
from tests import commands, oracle
from tests.plain import Plain
from tests.servers import ROOT, Vhosts, migrate
from tests.system import SCRIPTS, System
from tests.waiting import until

PASSWORDS = {role: f"{role}-Pa55word/with@signs" for role in database_roles.ROLES}
ALL = ("api", "relay", "worker", "beat", "observer")


def with_roles(url: str) -> str:
    """Run the command as an operator would; what it printed."""
    passwords = {database_roles.variable(role): PASSWORDS[role] for role in database_roles.ROLES}
    done = commands.run([SCRIPTS / "citycache", "migrate", "--roles"], os.environ | passwords | {"DATABASE_URL": url})
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def with_users(broker: str, vhosts: Vhosts) -> None:
    """The same for the broker."""
    account = vhosts.node.credentials
    done = subprocess.run(
        [sys.executable, "deploy/broker_policies.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CELERY_BROKER_URL": broker}
        | {"RABBITMQ_MANAGEMENT_URL": f"http://127.0.0.1:{vhosts.node.management_port}"}
        | {database_roles.variable(role): PASSWORDS[role] for role in database_roles.ROLES},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert account.password not in done.stdout
    assert not any(password in done.stdout for password in PASSWORDS.values())


def as_role(url: str, role: str) -> str:
    quoted = PASSWORDS[role].replace("/", "%2F").replace("@", "%40")
    return re.sub(r"//[^@]+@", f"//citycache_{role}:{quoted}@", url)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Roles belong to a whole server, so it is one of the module's own; fsync is off."""
    server = Postgres(tmp_path_factory.mktemp("roles"), settings={"fsync": "off", "log_statement": "all"})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def url(server: Postgres) -> str:
    """A migrated database with roles; granting again changes nothing."""
    migrate(server.url)
    first, again = with_roles(server.url), with_roles(server.url)
    assert first == again
    assert not any(password in first for password in PASSWORDS.values())
    return server.url


@pytest.fixture
def users(broker: str, vhosts: Vhosts) -> Iterator[str]:
    """A vhost in which each process has a user; gone afterwards."""
    with_users(broker, vhosts)
    yield broker
    for process in RIGHTS:
        vhosts.request("DELETE", f"users/citycache_{process}")


def test_each_process_works_with_its_own_role(url: str, users: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        system = {
            role: stack.enter_context(
                System(
                    as_role(url, role), as_role(users, role), tmp_path / role, OBSERVER="false", WORKER_CONCURRENCY="4"
                )
            )
            for role in ("relay", "worker", "beat", "api")
        }
        for role, part in system.items():
            part.start([role])
        observer = stack.enter_context(Observing(as_role(url, "observer"), as_role(users, "observer"), tmp_path))
        api = system["api"]

        city = call(api, "POST", "/cities", {"name": "a"})["id"]
        company = call(api, "POST", "/companies", {"name": "c", "city_id": city})["id"]
        product = call(api, "POST", "/products", {"name": "p", "company_id": company})["id"]
        with Plain(url) as plain:
            until(lambda: not oracle.violations(plain), 30, "events are applied")
            plain.run("INSERT INTO dead_letters (kind, reason, payload) VALUES ('unreadable', 'a test', '[]')")
            plain.run("UPDATE product_city_mapping SET kind = 'service'")
            until(lambda: plain.one("SELECT count(*) FROM audit_findings") > 0, 30, "the observer finds and repairs")
            until(lambda: plain.one("SELECT count(canary_ms) FROM observations") > 0, 30, "a canary arrives")
        for path in (
            "/cities", f"/cities/{city}/products", f"/caches/explain/product/{product}", "/celery/stats",
            "/celery/tasks", "/events/dead-letters", "/caches/active-cities/products", "/console/state",
            "/console/cities", "/audit-log",
        ):  # fmt: skip
            assert call(api, "GET", path), path
        call(api, "PATCH", f"/products/{product}", {"name": "q"})
        call(api, "POST", "/events/dead-letters/requeue", {"all": True})
        for task in ("update-product-city-cache", "update-company-city-cache", "update-cities-product-count",
                     "clear-all-caches", "refresh-all-caches", f"rebuild-city/{city}", "replay-events"):  # fmt: skip
            assert ended(api, task) == "SUCCESS", task
        call(api, "DELETE", f"/companies/{company}")
        with Plain(url) as plain:
            until(lambda: not oracle.violations(plain), 30)
        with urllib.request.urlopen(f"{api.api_url}/metrics", timeout=5) as answer:
            assert "citycache_consistency_nines" in answer.read().decode()
        with urllib.request.urlopen(f"{api.api_url}/health/ready", timeout=10) as answer:
            assert json.load(answer)["database"] == "ok", "health may read all that it looks at"
        assert system["beat"].runs("beat")
        logs = "\n".join([*(part.log(role) for role, part in system.items()), observer.read_text()])
        assert "permission denied" not in logs
        assert "ACCESS_REFUSED" not in logs


def publish(exchange: str, key: str) -> Callable[[Any], Any]:
    return lambda channel: channel.basic_publish_confirm(amqp.Message(b"[]"), exchange=exchange, routing_key=key)


def read(queue: str) -> Callable[[Any], Any]:
    return lambda channel: channel.basic_get(queue)


def _is_refused(attempt: Callable[[Any], Any], channel: Any) -> bool:
    try:
        attempt(channel)
    except amqp.exceptions.AccessRefused:
        return True
    return False


MUST_NOT_ON_THE_BROKER: dict[str, list[tuple[str, Callable[[Any], Any]]]] = {
    "api": [
        ("publish an event", publish("catalog.events", "catalog.city.created")),
        ("take events", read("city-cache.events")),
        ("read dead letters", read("city-cache.dead-letters")),
        ("delete the log", lambda channel: channel.queue_delete("catalog.events.log")),
        ("purge the queue", lambda channel: channel.queue_purge("city-cache.events")),
    ],
    "relay": [
        ("take events", read("city-cache.events")),
        ("take tasks", read("city-cache.maintenance")),
        ("start a task", publish("city-cache.maintenance", "city-cache.maintenance")),
        ("reach a queue directly", publish("", "city-cache.events")),
        ("make a queue", lambda channel: channel.queue_declare("mine", exclusive=True)),
    ],
    "worker": [
        ("publish an event", publish("catalog.events", "catalog.city.created")),
        ("make a queue", lambda channel: channel.queue_declare("mine", exclusive=True)),
    ],
    "beat": [
        ("publish an event", publish("catalog.events", "catalog.city.created")),
        ("take events", read("city-cache.events")),
        ("ask workers", publish("celery.pidbox", "")),
    ],
    "observer": [("take events", read("city-cache.events")), ("start a task", publish("city-cache.maintenance", ""))],
}


def test_no_user_can_do_what_it_must_not(users: str) -> None:
    connection = connect(users, "test")
    channel: Any = connection.channel()
    topology.declare(channel)
    channel.exchange_declare("celery.pidbox", "fanout", durable=False)
    for name in (topology.PATCHES, topology.MAINTENANCE):
        channel.exchange_declare(name, "direct", durable=True)
        channel.queue_declare(name, durable=True, auto_delete=False)
    connection.release()
    for process, attempts in MUST_NOT_ON_THE_BROKER.items():
        own = connect(as_role(users, process), "test")
        for what, attempt in attempts:
            channel = own.channel()
            channel.confirm_select()
            assert _is_refused(attempt, channel), f"{process} could {what}"
        own.release()


MUST_NOT = {
    "api": [
        "INSERT INTO event_outbox (type, subject) VALUES ('catalog.city.created', 'city/1')",
        "DELETE FROM event_outbox",
        "UPDATE product_city_mapping SET city_id = 1",
        "INSERT INTO city_counts (city_id) VALUES (1)",
        "DELETE FROM task_runs",
        "DELETE FROM audit_log",
        "UPDATE audit_log SET name = 'nobody'",
        "TRUNCATE cities CASCADE",
        "ALTER TABLE cities DISABLE TRIGGER ALL",
        "CREATE TABLE mine (id int)",
        "CREATE OR REPLACE FUNCTION capture_inserted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "SET ROLE citycache_migrate",
        "SET session_replication_role = replica",
    ],
    "relay": [
        "SELECT * FROM cities",
        "INSERT INTO event_outbox (type, subject) VALUES ('catalog.city.created', 'city/1')",
        "SELECT * FROM task_runs",
        "SELECT * FROM audit_log",
        "UPDATE city_counts SET products_count = 1",
        "DELETE FROM event_log",
        "UPDATE event_log SET subject = ''",
        "UPDATE event_log_source SET first_position = 0",
        "SELECT forget_events(0, 1)",
        "CREATE TABLE mine (id int)",
    ],
    "worker": [
        "INSERT INTO cities (name) VALUES ('a')",
        "UPDATE products SET name = 'a'",
        "DELETE FROM event_outbox",
        "SELECT name FROM audit_log",
        "INSERT INTO audit_log (method, path, status) VALUES ('GET', '/', 200)",
        "CREATE TABLE mine (id int)",
        "ALTER TABLE city_counts ADD COLUMN mine int",
        "INSERT INTO event_log (position) VALUES (1)",
        "DELETE FROM event_log",
        "DROP TABLE event_log_default",
        "SELECT make_event_log_days()",
    ],
    "beat": ["SELECT * FROM cities", "DELETE FROM task_runs", "SELECT * FROM audit_log", "SELECT * FROM event_outbox"],
    "observer": [
        "UPDATE cities SET name = 'a'",
        "INSERT INTO cities (name) VALUES ('a')",
        "DELETE FROM cities",
        "INSERT INTO products (name, company_id) VALUES ('a', 1)",
        "SELECT * FROM audit_log",
        "UPDATE task_runs SET state = 'FAILURE'",
        "DELETE FROM event_outbox",
    ],
    "migrate": ["CREATE ROLE mine", "ALTER SYSTEM SET work_mem = '1GB'", "SELECT * FROM pg_authid"],
}  # fmt: skip


@pytest.mark.parametrize(("role", "statement"), [(role, each) for role in MUST_NOT for each in MUST_NOT[role]])
def test_no_role_can_do_what_it_must_not(url: str, role: str, statement: str) -> None:
    with Plain(as_role(url, role)) as plain, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        plain.run(statement)


def test_nobody_makes_events_by_a_trigger_of_his_own(url: str) -> None:
    with Plain(as_role(url, "api")) as plain:
        plain.run("CREATE TEMPORARY TABLE mine (id int)")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            plain.run(
                "CREATE TRIGGER forge AFTER INSERT ON mine REFERENCING NEW TABLE AS new_rows"
                " FOR EACH STATEMENT EXECUTE FUNCTION public.capture_inserted('city')"
            )


def test_a_search_path_of_the_writers_own_redirects_no_event(url: str) -> None:
    with Plain(as_role(url, "api"), autocommit=False) as plain:
        plain.run("CREATE TEMPORARY TABLE event_outbox (LIKE public.event_outbox)")
        plain.run("SET search_path = pg_temp, public")
        plain.run("INSERT INTO public.cities (name) VALUES ('a')")
        assert plain.one("SELECT count(*) FROM pg_temp.event_outbox") == 0
        assert plain.one("SELECT count(*) FROM public.event_outbox") == 1
        plain.rollback()


def test_every_table_is_named_among_the_rights(url: str) -> None:
    text = Path(database_roles.__file__).with_suffix(".sql").read_text()
    with Plain(url) as plain:
        names = plain.column(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
            " AND relname !~ '^event_log_[0-9]'"
        )
        owners = set(plain.column("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"))
    assert [name for name in names if f"'{name}'" not in text] == []
    assert owners == {"citycache_migrate"}


def test_relay_and_worker_keep_and_read_the_log_that_is_a_table(url: str) -> None:
    with Plain(url) as plain:
        plain.run("INSERT INTO cities (name) VALUES ('a')")
    with Plain(as_role(url, "relay")) as relay:
        outbox = Outbox(relay.connection)
        outbox.log_into("table")
        outbox.remove([row.id for row in outbox.claim(1000)])
    with Plain(as_role(url, "worker")) as worker:
        assert worker.one("SELECT count(*) FROM event_log WHERE tableoid <> 'event_log_default'::regclass") > 0
        assert worker.all("SELECT FROM forget_events(604800, 10)") == []
        chosen = table.chosen(worker.all)
        assert chosen.source == "table"
    with_roles(url)


def test_granting_takes_back_what_is_not_written_down(url: str) -> None:
    with Plain(url) as plain:
        plain.run("GRANT ALL ON cities, audit_log, event_outbox TO citycache_relay, PUBLIC")
    with_roles(url)
    with Plain(as_role(url, "relay")) as plain, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        plain.run("SELECT * FROM cities")


def test_the_owner_migrates_by_itself(url: str) -> None:
    migrate(as_role(url, "migrate"), "downgrade", "0007")
    migrate(as_role(url, "migrate"))
    with_roles(url)
    with Plain(as_role(url, "api")) as plain:
        assert plain.one("SELECT count(*) FROM audit_log") == 0


def test_the_server_s_log_holds_no_password(server: Postgres, url: str) -> None:
    text = server.log.read_text(errors="replace")
    assert "ALTER ROLE" in text
    assert not any(password in text for password in PASSWORDS.values())


def test_says_what_is_missing_to_whoever_may_not_grant(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backend.app.cli", "migrate", "--roles"],
        env={**os.environ, "DATABASE_URL": as_role(url, "api")},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "superuser" in done.stderr or "permission denied" in done.stderr
    assert "Traceback" not in done.stderr


class Observing:
    """The observer as a process of its own."""

    def __init__(self, url: str, broker: str, place: Path) -> None:
        self._log = place / "observer.log"
        self._environment = {
            **os.environ, "DATABASE_URL": url, "CELERY_BROKER_URL": broker, "CANARY_SECONDS": "1",
            "AUDIT_GRACE_SECONDS": "0.5", "AUDIT_CORE_SHARE": "0.5",
        }  # fmt: skip

    def __enter__(self) -> Path:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(SCRIPTS / "citycache"), "observe"], env=self._environment, cwd=ROOT, stdout=output, stderr=output
            )
        return self._log

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(10) == 0


def call(api: System, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{api.api_url}/api/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read() or b"null")


def ended(api: System, task: str) -> str:
    run = call(api, "POST", f"/celery/tasks/{task}")["task_id"]
    state = ["PENDING"]

    def done() -> bool:
        state[0] = call(api, "GET", f"/celery/tasks/{run}")["state"]
        return state[0] not in ("PENDING", "STARTED", "RETRY")

    until(done, 30, task)
    return state[0]
