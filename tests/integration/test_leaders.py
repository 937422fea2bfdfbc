"""More than one of everything that must act once: relays, of which one leads, whatever becomes of it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.app.health.inspector import depths
from backend.embedded import spawn
from events import topology
from events.outbox import LEADER_LOCK
from tests.faults.captured import logged
from tests.faults.length import short_or
from tests.faults.plant import Plant, plant_on
from tests.faults.proxy import Proxy
from tests.plain import Plain
from tests.servers import ROOT, Databases, Vhosts
from tests.system import SCRIPTS
from tests.waiting import until

SUSPENDED_SECONDS = short_or(12.0, 60.0)  # the leader's session ends after 10 s of silence
ADD = """
    INSERT INTO companies (name, city_id)
    SELECT 'c', (SELECT min(id) FROM cities) FROM generate_series(1, %s)"""


@pytest.fixture
def proxies(databases: Databases, vhosts: Vhosts) -> Iterator[tuple[Proxy, Proxy]]:
    """Before database and broker."""
    with Proxy(databases.server.port) as database, Proxy(vhosts.node.port) as broker:
        yield database, broker


@pytest.fixture
def plant(
    databases: Databases, vhosts: Vhosts, proxies: tuple[Proxy, Proxy], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Plant]:
    """A worker and a relay that leads and reaches its servers through proxies; `relay-2` stands by without any."""
    with plant_on(databases, vhosts, tmp_path_factory.mktemp("plant"), *proxies) as plant:
        plant.started(["relay", "worker"])
        plant.environment |= {"DATABASE_URL": plant.servers[0], "CELERY_BROKER_URL": plant.servers[1]}
        plant.start(["relay-2"])
        yield plant
        for proxy in proxies:
            proxy.heal()
        plant.drain()
        assert plant.violations() == []


@pytest.fixture
def sql(plant: Plant) -> Iterator[Plain]:
    with plant.sql() as plain:
        yield plain


def leads(plant: Plant, name: str) -> int:
    """How often this relay has become the leader."""
    return plant.log(name).count("relay leads")


def leaders(sql: Plain) -> int:
    """Sessions that hold the leader's lock."""
    return int(sql.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s", [LEADER_LOCK]))


def test_of_two_relays_one_publishes_and_each_event_once(plant: Plant, sql: Plain):
    for _ in range(50):
        sql.run(ADD, [20])
    plant.drain()
    assert (leads(plant, "relay"), leads(plant, "relay-2"), leaders(sql)) == (1, 0, 1)
    assert set(logged(plant.servers[1]).values()) == {1}


def test_the_next_one_leads_when_the_leader_is_killed(plant: Plant, sql: Plain):
    plant.kill("relay")
    sql.run(ADD, [20])
    assert until(lambda: leads(plant, "relay-2"), 5, "the other one leads") < 5
    plant.drain()
    assert len(logged(plant.servers[1])) >= 21


def test_a_leader_whose_database_connection_is_half_open_loses_the_lead(
    plant: Plant, sql: Plain, proxies: tuple[Proxy, Proxy]
):
    proxies[0].half_open()
    sql.run(ADD, [20])
    until(lambda: leads(plant, "relay-2"), 15, "the other one leads")
    until(lambda: sql.one("SELECT count(*) FROM event_outbox") == 0, 5, "it publishes")
    proxies[0].heal()
    until(lambda: "relay waits" in plant.log("relay") or "starts anew" in plant.log("relay"), 15, "it notices")
    sql.run(ADD, [20])
    plant.drain()
    assert (leads(plant, "relay"), leaders(sql)) == (1, 1)


def test_a_leader_whose_broker_connection_is_half_open_makes_a_new_one(
    plant: Plant, sql: Plain, proxies: tuple[Proxy, Proxy]
):
    proxies[1].half_open()
    sql.run(ADD, [20])
    until(lambda: sql.one("SELECT count(*) FROM event_outbox") == 0, 20, "events are published")
    assert leaders(sql) == 1


def test_a_suspended_leader_loses_the_lead_and_does_no_harm_when_it_comes_back(plant: Plant, sql: Plain):
    sql.run(ADD, [5_000])
    plant.suspend("relay")
    begin = time.monotonic()
    for _ in range(20):
        sql.run(ADD, [20])
    until(lambda: leads(plant, "relay-2"), 15, "the other one leads")
    plant.drain()
    threading.Event().wait(max(0.0, SUSPENDED_SECONDS - (time.monotonic() - begin)))
    plant.resume("relay")
    until(lambda: "the relay's database connection is gone" in plant.log("relay"), 10, "it knows that it was deposed")
    for _ in range(20):
        sql.run(ADD, [20])
    plant.drain()
    assert (leads(plant, "relay"), leads(plant, "relay-2"), leaders(sql)) == (1, 1, 1)
    assert sql.one("SELECT count(*) FROM company_city_mapping") == 5_800
    assert max(logged(plant.servers[1]).values()) <= 2, "at most what was under way when it was suspended came twice"


def test_two_beats_of_which_one_is_suspended_queue_each_due_instant_once(
    databases: Databases, vhosts: Vhosts, tmp_path: Path
):
    with plant_on(databases, vhosts, tmp_path) as plant, plant.sql() as sql:
        beats = [hasty_beat(plant, tmp_path / f"beat-{number}.log") for number in (1, 2)]
        try:
            await_runs(sql, 2, "both run")
            for beat in beats:
                beat.send_signal(signal.SIGSTOP)
                await_runs(sql, 3, "the other one goes on")
                beat.send_signal(signal.SIGCONT)
            await_runs(sql, 2, "both go on")
        finally:
            for beat in beats:
                spawn.end(beat, signal.SIGTERM, 5)
        runs, instants = sql.all("SELECT count(*), count(DISTINCT scheduled_for) FROM task_runs")[0]
        assert runs == instants
        queued = sql.one("SELECT count(*) FROM task_runs WHERE error IS NULL")  # beats may have ended while they queued
        assert queued <= depths(topology.MAINTENANCE, url=plant.broker)[topology.MAINTENANCE] <= runs
        assert queued >= runs - len(beats)


def await_runs(sql: Plain, more: int, what: str) -> None:
    """Until so many more runs are queued than now."""
    due = "SELECT count(*) FROM task_runs WHERE trigger = 'beat'"
    least = sql.one(due) + more
    until(lambda: sql.one(due) >= least, 30, what)


def hasty_beat(plant: Plant, log: Path) -> spawn.Process:
    """A beat whose only task is due every second."""
    command = [SCRIPTS / "celery", "-A", "tests.faults.hasty", "beat", "--loglevel", "INFO", "--pidfile="]
    return spawn.spawn(command, log=log, env={**plant.environment, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
