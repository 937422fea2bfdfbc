"""A role that owns its schema and may do nothing else runs all of it, as the one that a managed server gives."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2.errors
import pytest

from tests.acceptance.operating import FEED
from tests.acceptance.test_up import Running
from tests.faults.plant import Plant
from tests.plain import Plain
from tests.servers import Databases, migrate

OWNER, PASSWORD = "owner_only", "0wner"
FORBIDDEN = (
    "CREATE ROLE another",
    "CREATE DATABASE another",
    "CREATE EXTENSION pg_stat_statements",
    "CREATE SCHEMA another",
    "SET session_replication_role = replica",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "SELECT pg_read_file('postgresql.conf')",
)


@pytest.fixture
def owned(databases: Databases) -> Iterator[str]:
    """The URL of a database without tables, as a role that owns the schema public, with row_security on."""
    with databases.empty() as url:
        with Plain(url) as plain:
            name = plain.one("SELECT current_database()")
            plain.run(
                f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}' NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"
            )
            plain.run(f"ALTER ROLE {OWNER} SET row_security = on")
            plain.run(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
            plain.run(f"GRANT CONNECT ON DATABASE {name} TO {OWNER}")
            plain.run(f"ALTER SCHEMA public OWNER TO {OWNER}")
        yield re.sub(r"//[^@]+@", f"//{OWNER}:{PASSWORD}@", url)
    with Plain(databases.server.url_of("postgres")) as plain:
        plain.run(f"DROP ROLE {OWNER}")


def test_the_role_may_do_nothing_but_own_its_schema(owned: str) -> None:
    with Plain(owned) as plain:
        assert plain.one("SHOW row_security") == "on"
        assert plain.one("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user") is False
        for statement in FORBIDDEN:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                plain.run(statement)


@pytest.mark.parametrize("log", ["stream", "table"])
def test_it_migrates_follows_rebuilds_replays_and_verifies(owned: str, broker: str, log: str, tmp_path: Path) -> None:
    migrate(owned)
    plant = Plant(owned, broker, tmp_path, EVENT_LOG=log, WORKER_CONCURRENCY="2", CANARY_SECONDS="1")
    with plant:
        plant.started()
        done(plant, "import", str(FEED))
        plant.drain()
        assert plant.violations() == []
        with plant.sql() as sql:
            sql.run("UPDATE companies SET is_active = NOT is_active WHERE id %% 5 = 0", ())
            plant.drain()
            assert plant.violations() == []
            plant.wait_until(lambda: sql.one("SELECT count(canary_ms) FROM observations") > 0, 30, "it is observed")
            assert sql.column("SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'") == [OWNER]

        for task in ("refresh-all-caches", "clear-all-caches", "refresh-all-caches"):
            assert ended(plant, task)["state"] == "SUCCESS", task
        assert plant.violations() == []
        assert ended(plant, "clear-all-caches")["state"] == "SUCCESS"
        assert json.loads(done(plant, "replay", "--json", "--dry-run"))["would_change"]["product_city_mapping"] > 0
        assert ended(plant, "replay-events")["result"]["events"] > 10_000
        plant.drain()
        assert plant.violations() == []
        done(plant, "verify", "--wait", "10")
        done(plant, "preview", "--json", "UPDATE companies SET city_id = NULL WHERE city_id = 1")
        done(plant, "dead-letters", "list")
        assert json.loads(done(plant, "status", "--json"))["log"]["source"] == log
        assert not any("permission denied" in plant.log(name) for name in ("api", "relay", "worker", "beat"))


def test_up_runs_on_its_database(owned: str, tmp_path: Path) -> None:
    options = ("--database-url", owned)
    with Running(tmp_path / "data", *options, RABBITMQ_SERVER="/nowhere/rabbitmq-server") as running:
        with running.sql() as sql:
            sql.run("INSERT INTO cities (id, name) VALUES (1, 'a')")
            sql.run("INSERT INTO companies (name, city_id) VALUES ('c', 1)")
        counted = "SELECT companies_count FROM city_counts WHERE city_id = 1"
        running.wait_until(lambda: running.query(counted) == [(1,)], 30)
        assert "permission denied" not in "".join(log.read_text() for log in (tmp_path / "data" / "logs").glob("*.log"))
        assert running.end(signal.SIGTERM) == 0


def done(plant: Plant, *arguments: str) -> str:
    """Run a command that must end well; what it printed."""
    ran = plant.command(*arguments, patience=120)
    assert ran.returncode == 0, f"{arguments}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def ended(plant: Plant, task: str) -> dict[str, Any]:
    """Start a task over HTTP; its run when it has ended."""
    run: dict[str, Any] = plant.post(f"celery/tasks/{task}")

    def is_over() -> bool:
        run.update(plant.get(f"/api/v1/celery/tasks/{run['task_id']}"))
        return run["state"] not in ("PENDING", "STARTED", "RETRY")

    plant.wait_until(is_over, 60, task)
    return run
