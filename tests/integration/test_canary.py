"""The canary goes the whole way of an event, and touches nothing that is not ours."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from backend.app import db, settings
from backend.app.health import inspector, signs
from backend.app.observing import canary
from backend.app.observing.history import History
from backend.app.observing.observer import Observer
from backend.app.worker.batch import Batch, apply_batch
from backend.embedded import spawn
from events import contract
from events.contract import Hint
from tests.background import background
from tests.faults.plant import Plant, plant_on
from tests.plain import Plain
from tests.servers import ROOT, Databases, Vhosts
from tests.waiting import until

MIGRATION = importlib.import_module("backend.alembic.versions.0015_canaries")
ARRIVED = "SELECT count(canary_ms) FROM observations"
NOW = "2026-11-24T00:00:00Z"


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        yield plain


@pytest.fixture
def plant(databases: Databases, vhosts: Vhosts, tmp_path: Path) -> Iterator[Plant]:
    """A system that observes, nothing started yet."""
    with plant_on(databases, vhosts, tmp_path, OBSERVER="true", CANARY_SECONDS="0.2") as plant:
        yield plant


def hears(*ids: int) -> None:
    apply_batch(Batch([Hint("canary", each, str(uuid4()), NOW, None) for each in ids]), str(uuid4()))


def relayed(plain: Plain) -> None:
    """What the outbox holds is applied, as relay and worker would."""
    rows = plain.all("DELETE FROM event_outbox RETURNING event_id::text, type, subject, occurred_at::text")
    hints = [contract.hint(contract.event(*row, None, None, None)) for row in rows]
    if hints:
        apply_batch(Batch(hints), str(uuid4()))


def test_a_citys_id_below_zero_is_a_users_own(plant: Plant) -> None:
    """Whatever its name is."""
    plant.started(["relay", "worker", "api"])
    with plant.sql() as sql:
        sql.run("INSERT INTO cities (id, name) VALUES (-1, 'canary'), (-2, 'Unknown')")
        sql.run("INSERT INTO companies (id, name, city_id) VALUES (-5, 'x', -1), (0, 'y', -2)")
        before = sql.one(ARRIVED)
        plant.wait_until(lambda: sql.one(ARRIVED) >= before + 2, 60, "canaries arrive")
        plant.drain()

        assert sql.all("SELECT id, city_id FROM companies ORDER BY id") == [(-5, -1), (0, -2)]
        assert sql.all("SELECT id FROM cities WHERE id < 0 ORDER BY id") == [(-2,), (-1,)]
        assert plant.violations() == []
        assert sql.one("SELECT count(*) FROM dead_letters") == 0
    read = json.loads(plant.command("replay", "--json", "--dry-run").stdout)
    assert read["events"] == 5  # the first city's and these four: no canary is in the log


def test_does_not_fly_while_a_worker_of_an_earlier_release_is_there(plant: Plant, tmp_path: Path) -> None:
    code = (
        "import sys; from backend.app.worker import consumer; consumer.KNOWN.clear()\n"
        "from celery.__main__ import main\n"
        "sys.argv[1:] = ['-A', 'backend.app.celery_app', 'worker', '-n', 'old@x']; main()"
    )
    old = spawn.spawn([sys.executable, "-c", code], log=tmp_path / "old.log", env=plant.environment, cwd=ROOT)
    try:
        plant.started(["relay", "api"])
        with plant.sql() as sql:
            plant.wait_until(
                lambda: inspector.waiting(plant.broker).knows_canaries is False, 30, "the old worker answers"
            )
            seen = sql.one("SELECT count(*) FROM observations")
            plant.wait_until(lambda: sql.one("SELECT count(*) FROM observations") >= seen + 2, 30, "it is observed")
            assert sql.one("SELECT count(*) FROM canaries") == 0

            plant.start(["worker"])
            old.terminate()
            plant.wait_until(lambda: sql.one(ARRIVED) > 0, 60, "a canary arrives")
            assert sql.one("SELECT count(*) FROM dead_letters") == 0
    finally:
        old.kill()
        old.wait(10)


def test_tells_how_long_its_event_took(plain: Plain) -> None:
    with background(lambda stop: until(lambda: (relayed_by_itself(), stop.is_set())[1], 30)):
        assert 0 < (canary.fly(10) or 0) < 10_000
        assert 0 < (canary.fly(10) or 0) < 10_000


def test_one_that_lands_while_it_is_observed_counts_in_the_next_observation(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both come round every five seconds: where they meet once, they meet for minutes."""
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://")  # where all know canaries
    settings.settings.cache_clear()
    observer = Observer()

    class Meanwhile(History):
        def observe(self, canary_ms: float | None) -> dict[str, Any]:
            row = super().observe(canary_ms)
            observer.fly()
            return row

    meanwhile = Meanwhile()
    with background(lambda stop: until(lambda: (relayed_by_itself(), stop.is_set())[1], 30)):
        for _ in range(4):
            observer.observe(meanwhile)
    seen = plain.all("SELECT canary_ms IS NOT NULL FROM observations ORDER BY at")
    assert seen == [(False,), (False,), (True,), (True,)]  # the first one learns that all know canaries


def relayed_by_itself() -> None:
    with Plain(db.url()) as own:
        relayed(own)


def test_has_not_arrived_while_its_event_is_under_way(plain: Plain) -> None:
    assert canary.fly(0.2) is None
    relayed(plain)
    assert plain.one("SELECT number FROM canary_cache") == plain.one("SELECT number FROM canaries")


def test_arrives_although_its_table_is_older_than_its_cache(plain: Plain) -> None:
    plain.run("INSERT INTO canary_cache (id, number) VALUES (1, 500)")
    assert canary.fly(0.1) is None


def test_a_late_patch_takes_no_canary_back(plain: Plain, database: str) -> None:
    plain.run("INSERT INTO canaries (id, number) VALUES (1, 1)")
    with Plain(database, autocommit=False) as late:
        late.run("INSERT INTO canary_cache (id, number) VALUES (1, 7)")
        with background(lambda stop: hears(1)):
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            until(lambda: plain.one(waits), 10, "the patch waits")
            late.commit()
    assert plain.one("SELECT number FROM canary_cache") == 7


@pytest.mark.parametrize("ids", [[1], [-(2**63), 0, 2**63 - 1], [1, 1, 2]])
def test_a_hint_at_a_canary_that_is_not_there_changes_nothing(plain: Plain, ids: list[int]) -> None:
    hears(*ids)
    assert plain.one("SELECT count(*) FROM canary_cache") == 0
    assert plain.one("SELECT count(*) FROM dead_letters") == 0


LEFT = "INSERT INTO cities (id, name) VALUES (-1, 'canary')"
USERS = {
    "another name": "INSERT INTO cities (id, name) VALUES (-1, 'Unknown')",
    "a place": "INSERT INTO cities (id, name, latitude, longitude) VALUES (-1, 'canary', 1, 2)",
    "an external id": "INSERT INTO cities (id, name, external_id) VALUES (-1, 'canary', 'x')",
    "a company": f"{LEFT}; INSERT INTO companies (name, city_id) VALUES ('x', -1)",
    "another id": "INSERT INTO cities (id, name) VALUES (-2, 'canary')",
}


def test_the_migration_removes_the_canary_of_an_earlier_release_and_no_city_of_others(plain: Plain) -> None:
    for statement, left in {LEFT: 0, **dict.fromkeys(USERS.values(), 1)}.items():
        plain.run("TRUNCATE cities, companies, products")
        plain.run(statement)
        plain.run(MIGRATION.LEFT_BEHIND)
        assert plain.one("SELECT count(*) FROM cities") == left, statement


AGES = {  # seconds since each observation; a canary that comes first after a pause may take 25 s
    "one, long ago": ([600], False),
    "since a moment": ([3, 8, 13], False),
    "since a moment, after a pause": ([3, 8, 13, 600], False),
    "all the time": (list(range(3, 60, 5)), True),
    "again since a while": ([*range(3, 33, 5), 600], True),
    "with a pause": ([3, 8, 31, 36, 41], False),
    "never": ([], False),
}


@pytest.mark.parametrize("case", AGES)
def test_health_knows_whether_somebody_observed_for_as_long_as_a_canary_may_take(
    configured_database: None, plain: Plain, case: str
) -> None:
    ages, expected = AGES[case]
    plain.run(
        """INSERT INTO observations (at, seconds, captured, published, applied, patched, latency)
           SELECT now() - age * interval '1 second', 5, 0, 0, 0, 0, '{}' FROM unnest(%s::int[]) AS age""",
        (ages,),
    )
    assert signs.stored().is_observed_for_long is expected
