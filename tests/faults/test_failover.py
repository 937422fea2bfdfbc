"""PostgreSQL's machine is lost: its standby is promoted, and everybody goes there by themselves."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from backend.app import db
from backend.app.errors import DatabaseAway
from backend.embedded.postgres import Postgres
from tests import oracle
from tests.faults.failover import Plan, both, run
from tests.faults.plant import QUIET, Plant
from tests.integration.test_poolers import connected_to
from tests.plain import Plain
from tests.servers import Vhosts
from tests.waiting import until

FLOWS_AGAIN = 30.0  # seconds after the promotion, on a machine that does other things as well
ADD = "INSERT INTO companies (name, city_id) SELECT 'c', min(id) FROM cities RETURNING id"


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


@pytest.mark.alone
class TestAlone:
    @pytest.mark.parametrize("is_synchronous", [True, False], ids=["synchronous", "asynchronous"])
    def test_under_load_nothing_is_lost_or_wrong_and_nobody_restarts_anything(
        self, is_synchronous: bool, own_postgres: Postgres, standby: Postgres, vhosts: Vhosts, tmp_path: Path
    ) -> None:
        plan = Plan(is_synchronous, seconds=4)
        with vhosts.fresh() as broker:
            outcome = run(own_postgres, standby, broker, tmp_path / "plant", plan)
        assert outcome.complaints(plan) == []
