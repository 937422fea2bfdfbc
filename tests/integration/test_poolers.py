"""A pooler in session mode is as good as the server; one in transaction mode is refused before anything begins."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from backend.app import db
from backend.app.errors import DatabaseUnfit
from backend.app.settings import settings
from tests import commands
from tests.faults.plant import QUIET, Plant
from tests.plain import Plain
from tests.poolers import pgbouncer
from tests.system import SCRIPTS
from tests.waiting import until

CELERY = [str(SCRIPTS / "celery"), "-A", "backend.app.celery_app"]
STARTS = {
    "migrate": [str(SCRIPTS / "citycache"), "migrate"],
    "relay": [str(SCRIPTS / "citycache"), "relay"],
    "observe": [str(SCRIPTS / "citycache"), "observe"],
    "verify": [str(SCRIPTS / "citycache"), "verify"],
    "worker": [*CELERY, "worker"],
    "beat": [*CELERY, "beat"],
    "api": [str(SCRIPTS / "uvicorn"), "backend.app.main:app", "--port", "0"],
    "up": [str(SCRIPTS / "citycache"), "up", "--port", "0", "--broker-url", "memory://"],
}


def begin(system: Plant, part: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Start a part; it must end by itself."""
    more = ["--data-dir", str(place / "up")] if part == "up" else []
    command = [*STARTS[part], *more]
    return commands.run(command, system.environment)


def connected_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's settings name this database."""
    monkeypatch.setenv("DATABASE_URL", url)
    settings.cache_clear()


@pytest.mark.parametrize("pool_mode", ["transaction", "statement"])
def test_every_process_refuses_a_pooler_that_shares_sessions_and_names_the_setting(
    database: str, broker: str, tmp_path: Path, pool_mode: str
) -> None:
    with pgbouncer(database, pool_mode) as through, Plant(through, broker, tmp_path, **QUIET) as system:
        parts = STARTS if pool_mode == "transaction" else ("relay",)
        ended = {part: begin(system, part, tmp_path) for part in parts}

    assert {part: done.returncode for part, done in ended.items()} == dict.fromkeys(parts, 2), ended
    for part, done in ended.items():
        assert "pool_mode = session" in done.stderr, part
        assert "Traceback" not in done.stderr, part


@pytest.mark.parametrize("always", ["0", "1"])
def test_a_shared_session_is_seen_whether_it_is_cleaned_after_each_transaction_or_not(
    configured_database: None, database: str, monkeypatch: pytest.MonkeyPatch, always: str
) -> None:
    with pgbouncer(database, "transaction", server_reset_query_always=always) as through:
        connected_to(through, monkeypatch)

        with pytest.raises(DatabaseUnfit, match="pool_mode = session"):
            db.prove()


def test_a_pooler_that_hands_on_sessions_with_their_locks_is_refused(
    configured_database: None, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pgbouncer(database, "session", server_reset_query="") as through:
        connected_to(through, monkeypatch)
        db.direct("first").close()

        with pytest.raises(DatabaseUnfit, match="server_reset_query"):
            db.direct("second")


def test_the_server_itself_is_never_taken_for_a_pooler(configured_database: None) -> None:
    for _ in range(20):
        db.prove()


def test_session_mode_runs_everything(database: str, broker: str, tmp_path: Path) -> None:
    with (
        pgbouncer(database, "session") as through,
        Plant(database, broker, tmp_path, database_through=through, **QUIET) as system,
        system.sql() as sql,
    ):
        assert system.command("migrate").returncode == 0
        system.start()
        runs_everything(system, sql)
        assert sql.one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'citycache relay'") == 1

        system.kill("relay")
        until(lambda: leaders(sql) == 0, 15, "the pooler lets the leader's lock go")
        system.start(["relay"])
        sql.run("UPDATE products SET kind = 'service'")
        system.drain()
        assert system.violations() == []


def leaders(sql: Plain) -> Any:
    return sql.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = x'63697479'::bigint")


def runs_everything(system: Plant, sql: Plain) -> None:
    """An event, a rebuild, a replay and a verify."""
    sql.run("INSERT INTO cities (name) VALUES ('a'), ('b')")
    sql.run("INSERT INTO companies (name, city_id) SELECT 'c', min(id) FROM cities")
    sql.run("INSERT INTO products (name, company_id) SELECT 'p', id FROM companies")
    system.drain()
    assert system.violations() == []
    run = system.post("celery/tasks/refresh-all-caches")["task_id"]
    system.wait_until(lambda: system.get(f"/api/v1/celery/tasks/{run}")["state"] == "SUCCESS", 60, "the rebuild")
    done = system.command("replay", "--json", "--from-offset", "0")
    assert (done.returncode, json.loads(done.stdout or "{}").get("events", 0) >= 4) == (0, True), done.stderr
    checked = system.command("verify", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_deadlines_hold_through_a_pooler(
    configured_database: None, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pgbouncer(database, "session") as through:
        connected_to(through, monkeypatch)
        connection = db.connect("slow", statement_ms=200)
        with closing(connection), connection.cursor() as cursor, pytest.raises(psycopg2.errors.QueryCanceled):
            cursor.execute("SELECT pg_sleep(5)")
