"""No password and no key in any log, answer or complaint: every process runs with marked ones, and things break."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg2.extensions
import pytest

from backend.embedded import spawn
from tests import commands
from tests.plain import Plain, dsn
from tests.servers import Databases, Vhosts
from tests.system import EVERYTHING, SCRIPTS, System
from tests.waiting import until

MARK = "zq7xMARKED"
DATABASE_PASSWORD = f"{MARK}-db/pass@word"
BROKER_PASSWORD = f"{MARK}-broker/pass@word"
API_KEY = f"{MARK}-the-api-key"
ADMIN_KEY, READ_KEY = f"{MARK}-admin-key-0123", f"{MARK}-read-key-01234"
COMMANDS = (
    ["verify"], ["migrate"], ["migrate", "--roles"], ["dead-letters", "list"], ["import", "-"],
    ["replay", "--from-offset", "0", "--dry-run"],
)  # fmt: skip


def marked(text: str) -> list[str]:
    """Lines that show a secret, plain or quoted."""
    return [line for line in text.splitlines() if MARK in line or quote(MARK) in line]


@pytest.fixture
def urls(database: str, databases: Databases, broker: str, vhosts: Vhosts) -> Iterator[tuple[str, str]]:
    """URLs of accounts whose passwords are marked."""
    port = psycopg2.extensions.parse_dsn(dsn(database))["port"]
    vhost = broker.rpartition("/")[2]
    with Plain(database) as plain:
        plain.run("CREATE ROLE marked LOGIN SUPERUSER PASSWORD %s", (DATABASE_PASSWORD,))
    body = json.dumps({"password": BROKER_PASSWORD, "tags": ""}).encode()
    vhosts.request("PUT", "users/marked", body)
    rights = json.dumps({"configure": ".*", "write": ".*", "read": ".*"}).encode()
    vhosts.request("PUT", f"permissions/{quote(vhost, safe='')}/marked", rights)
    name = database.rpartition("/")[2]
    yield (
        f"postgresql+psycopg2://marked:{quote(DATABASE_PASSWORD, safe='')}@127.0.0.1:{port}/{name}",
        re.sub(r"//[^@]+@", f"//marked:{quote(BROKER_PASSWORD, safe='')}@", broker),
    )
    vhosts.request("DELETE", "users/marked")
    with Plain(database) as plain:
        plain.run("DROP OWNED BY marked; DROP ROLE marked")


def environment(**more: str) -> dict[str, str]:
    return {
        "API_KEY": API_KEY, "API_KEYS": f"root:admin:{ADMIN_KEY},eye:read:{READ_KEY}", "LOG_LEVEL": "DEBUG",
        "WORKER_CONCURRENCY": "2", **more,
    }  # fmt: skip


def ask(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> str:
    """Everything that comes back, headers too."""
    request = urllib.request.Request(url, method=method, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return f"{answer.headers}\n{answer.read().decode()}"
    except urllib.error.HTTPError as failure:
        return f"{failure.headers}\n{failure.read().decode()}"


def everything(system: System) -> str:
    """What the API tells to whoever may see all."""
    v1 = f"{system.api_url}/api/v1"
    open_paths = ("/cities", "/celery/stats", "/celery/tasks", "/console/state", "/caches/explain/city/1", "/nowhere")
    parts = [ask(v1 + path) for path in open_paths]
    parts += [ask(system.api_url + path) for path in ("/", "/metrics", "/health/ready", "/openapi.json")]
    parts += [ask(v1 + path, **{"X-API-Key": ADMIN_KEY}) for path in ("/audit-log", "/events/dead-letters")]
    parts.append(ask(f"{v1}/celery/tasks/refresh-all-caches", "POST", Authorization=f"Bearer {API_KEY}"))
    parts.append(ask(f"{v1}/celery/tasks/clear-all-caches", "POST", **{"X-API-Key": READ_KEY}))
    parts.append(ask(f"{v1}/cities?api_key={API_KEY}", "POST", b"{", **{"X-API-Key": f"{API_KEY}-wrong"}))
    parts.append(
        ask(f"{v1}/cities", "POST", b'{"name": 1}', **{"X-API-Key": API_KEY, "Content-Type": "application/json"})
    )
    parts.append(ask(f"{v1}/cities/{API_KEY}", "DELETE", **{"X-API-Key": API_KEY}))
    return "\n".join(parts)


def test_no_secret_is_told_while_servers_come_and_go(urls: tuple[str, str], vhosts: Vhosts, tmp_path: Path) -> None:
    with System(*urls, tmp_path / "system", **environment()) as system:
        system.start()
        with Plain(urls[0]) as plain:
            plain.run("INSERT INTO cities (id, name) VALUES (1, 'a')")
            until(lambda: plain.all("SELECT FROM city_counts WHERE city_id = 1"), 30)
            told = everything(system)
            plain.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'citycache %%'", ()
            )
            for connection in json.loads(vhosts.request("GET", "connections")):
                if connection.get("user") == "marked":
                    with suppress(urllib.error.HTTPError):  # it may have ended by itself
                        vhosts.request("DELETE", f"connections/{quote(connection['name'], safe='')}")
            told += everything(system)
            plain.run("INSERT INTO cities (id, name) VALUES (2, 'b')")
            until(lambda: plain.all("SELECT FROM city_counts WHERE city_id = 2"), 30)
            stored = plain.one("SELECT coalesce(string_agg(audit_log::text, E'\n'), '') FROM audit_log")
        system.stop()
        logs = "\n".join(system.log(name) for name in EVERYTHING)
    assert "this needs the role admin" in told
    assert len(logs) > 10_000
    assert [*marked(told), *marked(logs), *marked(stored)] == []


@pytest.mark.parametrize("broken", ["password", "away", "setting"])
def test_no_secret_is_told_by_a_process_that_cannot_work(
    database: str, broker: str, tmp_path: Path, broken: str
) -> None:
    database_url, broker_url, more = BROKEN[broken](database, broker)
    with System(database_url, broker_url, tmp_path / "system", **environment(LOG_FORMAT="json", **more)) as system:
        for name in ("relay", "worker", "beat"):
            system.start([name])
        lines = ("password authentication failed", "refused", "ACCESS_REFUSED", "API_KEYS", "Connection refused")
        for name in ("relay", "worker", "beat"):
            until(lambda name=name: any(line in system.log(name) for line in lines), 30, f"{name} complains")  # type: ignore[misc]
        if broken != "setting":
            system.start(["api"])
            told = everything(system)
            assert "503" in told
            assert marked(told) == []
        for command in COMMANDS:
            done = commands.run([SCRIPTS / "citycache", *command], system.environment, patience=90)
            assert done.returncode in (1, 2) or command == ["import", "-"], (command, done.stdout, done.stderr)
            assert marked(done.stdout + done.stderr) == []
        system.stop()
        for log in sorted((tmp_path / "system").glob("*.log")):
            assert marked(log.read_text(errors="replace")) == [], log.name


def _wrong_password(database: str, broker: str) -> tuple[str, str, dict[str, str]]:
    def wrong(url: str, password: str) -> str:
        return re.sub(r":[^:@/]+@", f":{quote(password, safe='')}@", url)

    return wrong(database, DATABASE_PASSWORD), wrong(broker, BROKER_PASSWORD), {}


def _nobody_there(database: str, broker: str) -> tuple[str, str, dict[str, str]]:
    first, second, _ = _wrong_password(database, broker)
    port = f"127.0.0.1:{spawn.free_port()}/"
    return re.sub(r"127.0.0.1:\d+/", port, first), re.sub(r"127.0.0.1:\d+/", port, second), {}


def _bad_settings(database: str, broker: str) -> tuple[str, str, dict[str, str]]:
    first, _, _ = _wrong_password(database, broker)
    return first.replace("postgresql", "mysql"), f"amqps://me:{MARK}@h//?{MARK}=1", {"API_KEYS": f"{READ_KEY}:read"}


BROKEN = {"password": _wrong_password, "away": _nobody_there, "setting": _bad_settings}
