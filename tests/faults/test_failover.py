"""PostgreSQL's machine is lost: its standby is promoted, and everybody goes there by themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backend.app import db
from backend.app.errors import DatabaseAway
from backend.embedded.postgres import Postgres, find_binaries
from tests import oracle
from tests.faults.plant import QUIET, Plant
from tests.integration.test_poolers import connected_to
from tests.plain import Plain
from tests.servers import Vhosts, migrate
from tests.waiting import until

FLOWS_AGAIN = 30.0  # seconds after the promotion, on a machine that does other things as well
ADD = "INSERT INTO companies (name, city_id) SELECT 'c', min(id) FROM cities RETURNING id"


@pytest.fixture
def standby(own_postgres: Postgres, tmp_path: Path) -> Iterator[Postgres]:
    """Follows the test's own server."""
    migrate(own_postgres.url)
    place = tmp_path / "standby"
    place.mkdir(mode=0o700)
    source = own_postgres.dsn_of("postgres")
    command = [str(find_binaries() / "pg_basebackup"), "-d", source, "-D", str(place / "data"), "-R", "-c", "fast"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    shutil.copy(own_postgres.data_dir / "password", place / "password")
    server = Postgres(place)
    server.start()
    yield server
    server.stop()


def both(primary: Postgres, standby: Postgres, options: str = "") -> str:
    """A URL of the two, the standby first."""
    return re.sub(r"@[^/]+/", f"@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/", primary.url) + options


def test_a_standby_is_passed_over_and_a_dead_host_too(
    own_postgres: Postgres, standby: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in ("", "?target_session_attrs=read-write"):
        connected_to(both(own_postgres, standby, options), monkeypatch)
        with closing(db.direct("test")) as connection:
            assert connection.info.port == own_postgres.port

    connected_to(standby.url, monkeypatch)
    with pytest.raises(DatabaseAway):
        db.direct("test")

    standby.kill()
    connected_to(both(own_postgres, standby), monkeypatch)
    with closing(db.direct("test")) as connection:
        assert connection.info.port == own_postgres.port


def test_a_pool_leaves_a_server_that_may_not_be_written(
    own_postgres: Postgres, standby: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind one name that leads elsewhere after a promotion."""
    connected_to(standby.url + "?target_session_attrs=any", monkeypatch)
    with pytest.raises(DatabaseAway), db.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM cities")
    with closing(db.direct("test")) as plain, plain.cursor() as cursor, pytest.raises(DatabaseAway), db.translated():
        cursor.execute("DELETE FROM cities")
    db.dispose()


def test_everybody_goes_to_the_promoted_standby(
    own_postgres: Postgres, standby: Postgres, vhosts: Vhosts, tmp_path: Path
) -> None:
    through = both(own_postgres, standby)
    with (
        vhosts.fresh() as broker,
        Plant(own_postgres.url, broker, tmp_path / "plant", database_through=through, **QUIET) as system,
    ):
        system.started()
        with Plain(own_postgres.url) as sql:
            last = sql.one("SELECT pg_current_wal_lsn()")
        with Plain(standby.url) as follower:
            until(
                lambda: follower.one("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (last,)), 30, "it has caught up"
            )
            own_postgres.kill()
            follower.one("SELECT pg_promote()")
        system.servers = (standby.url, broker)
        with Plain(standby.url) as sql:
            company = sql.one(ADD)
            cached = "SELECT EXISTS (SELECT FROM company_city_mapping WHERE company_id = %s)"
            system.wait_until(lambda: sql.one(cached, (company,)), FLOWS_AGAIN, "events flow again")
            assert system.post("cities", name="Berlin")["id"]
            run = system.post("celery/tasks/refresh-all-caches")["task_id"]
            state = "SELECT state FROM task_runs WHERE task_id = %s::uuid"
            system.wait_until(lambda: sql.one(state, (run,)) == "SUCCESS", 60, "a rebuild runs")
        system.drain()
        assert all(system.runs(part) for part in ("api", "relay", "worker", "beat"))
    assert oracle.of(standby.url) == []
