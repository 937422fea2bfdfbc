"""Supervision: servers may go away for any time, processes end when asked to, and whoever stands still is seen."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.error import HTTPError

import pytest

from backend.app.health import inspector as broker
from backend.app.health.judge import Stage
from backend.embedded import spawn
from backend.embedded.postgres import Postgres
from backend.embedded.rabbitmq import RabbitMQ
from events import topology
from events.connection import connect
from tests.faults.plant import QUIET, ZERO, Plant, plant_on
from tests.faults.proxy import Proxy
from tests.plain import Plain
from tests.servers import Databases, Vhosts, migrate
from tests.system import EVERYTHING, System
from tests.waiting import until

TICKS = os.sysconf("SC_CLK_TCK")
ADD = """
    INSERT INTO companies (name, city_id)
    SELECT 'c', (SELECT min(id) FROM cities) FROM generate_series(1, %s)"""


@pytest.fixture(scope="module")
def proxies(databases: Databases, vhosts: Vhosts) -> Iterator[tuple[Proxy, Proxy]]:
    """Before database and broker."""
    with Proxy(databases.server.port) as database, Proxy(vhosts.node.port) as broker:
        yield database, broker


@pytest.fixture(scope="module")
def plant(
    databases: Databases,
    vhosts: Vhosts,
    proxies: tuple[Proxy, Proxy],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Plant]:
    """Everything runs, and reaches its servers through proxies."""
    with plant_on(databases, vhosts, tmp_path_factory.mktemp("plant"), *proxies, STALL_SECONDS="2") as plant:
        yield plant.started()


@pytest.fixture
def sql(plant: Plant, proxies: tuple[Proxy, Proxy]) -> Iterator[Plain]:
    """At the end everything runs again and the caches are right."""
    with plant.sql() as plain:
        yield plain
    for proxy in proxies:
        proxy.heal()
    plant.start([name for name in EVERYTHING if not plant.runs(name)])
    plant.drain()
    assert plant.violations() == []


class TestStop:
    """SIGTERM: within 10 s, and nothing half done."""

    def test_in_the_middle_of_work(self, plant: Plant, sql: Plain):
        with plant.writing(ADD, 5, 0.02):
            assert too_slow(stop(plant, EVERYTHING)) == {}

    @pytest.mark.parametrize("away", ["database", "broker"])
    def test_while_a_server_does_not_answer(self, plant: Plant, sql: Plain, proxies: tuple[Proxy, Proxy], away: str):
        proxies[away == "broker"].hold()
        sql.run(ADD, [10])
        assert too_slow(stop(plant, EVERYTHING)) == {}

    def test_in_a_rebuild_which_goes_on_after_the_restart(self, plant: Plant, sql: Plain):
        with plant.sql() as other:
            other.connection.autocommit = False
            other.run("LOCK TABLE product_city_mapping IN ACCESS EXCLUSIVE MODE")
            task_id = plant.post("celery/tasks/update-product-city-cache")["task_id"]
            state = "SELECT state FROM task_runs WHERE task_id = %s::uuid"
            plant.wait_until(lambda: sql.one(state, [task_id]) == "STARTED", 20, "the rebuild begins")
            assert too_slow(stop(plant, ["worker"])) == {}
        plant.start(["worker"])
        plant.wait_until(lambda: sql.one(state, [task_id]) == "SUCCESS", 40, "the rebuild ends")


def stop(plant: Plant, names: Sequence[str]) -> dict[str, float]:
    """SIGTERM to these; the seconds until each has ended, its children too, and not by a death."""
    processes = {name: plant.process(name) for name in names}
    pids = [pid for process in processes.values() for pid in (process.pid, *spawn.descendants(process.pid))]
    for process in processes.values():
        process.terminate()
    begin, seconds = time.monotonic(), dict[str, float]()

    def all_ended() -> bool:
        for name, process in processes.items():
            if name not in seconds and process.poll() is not None:
                seconds[name] = time.monotonic() - begin
        return len(seconds) == len(processes)

    until(all_ended, 20, f"all of {names} end")
    ends = {name: process.returncode for name, process in processes.items()}
    assert set(ends.values()) <= {0, -signal.SIGTERM}, f"{ends}: -15 is how uvicorn says that it was asked to end"
    assert spawn.wait_until_gone(pids, 2), "children end with their process"
    return seconds


def too_slow(seconds: dict[str, float]) -> dict[str, float]:
    return {name: taken for name, taken in seconds.items() if taken >= 10}


class TestStall:
    """A process that runs and does not work is seen by /health/ready."""

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [("worker", "give no answer"), ("relay", "the relay publishes none of them")],
    )
    def test_a_suspended_process(self, plant: Plant, sql: Plain, name: str, sentence: str):
        plant.suspend(name)
        try:
            sql.run(ADD, [10])
            until(lambda: sentence in readiness(plant), 10, "the stall is seen")
        finally:
            plant.resume(name)
        until(lambda: readiness(plant) == "ok", 10, "it is over")

    def test_suspended_children(self, plant: Plant, sql: Plain):
        children = plant.children("worker")
        for child in children:
            os.kill(child, signal.SIGSTOP)
        try:
            sql.run(ADD, [10])
            until(lambda: "no worker applies any of" in readiness(plant), 10, "the stall is seen")
        finally:
            for child in children:
                os.kill(child, signal.SIGCONT)
        until(lambda: readiness(plant) == "ok", 10, "it is over")

    def test_no_worker_at_all(self, plant: Plant, sql: Plain):
        plant.stop(["worker"])
        sql.run(ADD, [10])
        until(lambda: "no worker applies any of 1 messages" in readiness(plant), 10, "the stall is seen")
        plant.start(["worker"])
        until(lambda: readiness(plant) == "ok", 20, "it is over")


def readiness(plant: Plant) -> str:
    """What /health/ready says of the events."""
    try:
        return str(plant.get("/health/ready")["events"])
    except HTTPError as refusal:
        return refusal.read().decode()


class TestStage:
    """The judgement, without servers: `has_work` and `mark` at an instant."""

    def test_stands_still_only_with_work_and_an_unmoved_mark(self):
        stage = Stage()
        assert stage.seconds_still(True, "a", now=0) == 0
        assert stage.seconds_still(True, "a", now=5) == 5
        assert stage.seconds_still(True, "b", now=6) == 0
        assert stage.seconds_still(False, "b", now=20) == 0
        assert stage.seconds_still(True, "b", now=30) == 0


@pytest.fixture
def own(own_postgres: Postgres, own_rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Plant]:
    """Everything runs, on servers that may be killed."""
    migrate(own_postgres.url)
    with Plant(own_postgres.url, own_rabbitmq.url, tmp_path / "system", **QUIET) as plant:
        yield plant.started()


def test_waits_for_lost_servers_without_a_restart_and_without_haste(
    own: Plant, own_postgres: Postgres, own_rabbitmq: RabbitMQ
):
    pids = {name: own.pid(name) for name in EVERYTHING}
    for server in (own_postgres, own_rabbitmq):
        server.kill()
        shares = shares_of_a_core(own)
        assert {name: share for name, share in shares.items() if share > 0.25} == {}
        server.start()
        with own.sql() as sql:
            sql.run(ADD, [10])
            until(lambda: not own.violations(), 30, "events flow again")
    own.drain()
    assert {name: own.pid(name) for name in EVERYTHING if own.runs(name)} == pids


def shares_of_a_core(plant: Plant, seconds: float = 4) -> dict[str, float]:
    """Of each process and its children, over some seconds."""
    pids = {name: [plant.pid(name), *plant.children(name)] for name in EVERYTHING}
    before = {name: sum(map(ticks, own)) for name, own in pids.items()}
    threading.Event().wait(seconds)
    return {name: (sum(map(ticks, own)) - before[name]) / TICKS / seconds for name, own in pids.items()}


def ticks(pid: int) -> int:
    """CPU time of a process so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def test_a_worker_starts_while_the_broker_holds_a_control_queue_of_its_name(system: System):
    with connect(system.broker, "test") as lost:
        channel = lost.channel()
        topology.declare(channel)
        channel.queue_declare(f"worker-{system.port}@localhost.celery.pidbox", exclusive=True)
        system.start(["worker"])
        system.wait_until(lambda: broker.waiting(system.broker).is_known, 30, "the worker answers")


class TestHeld:
    """What workers hold is known only when all of them say it."""

    def test_of_two_workers_of_which_one_is_suspended(self, plant: Plant, sql: Plain):
        plant.start(["worker-2"])
        try:
            until(lambda: plant.lag() == ZERO and len(plant.children("worker-2")) >= 2, 30, "both are ready")
            with plant.writing(ADD, 5, 0.02):
                until(lambda: workers(sql) == 2, 30, "both work")
                plant.suspend("worker-2")
                until(lambda: plant.lag()["queue_messages"] is None, 10, "it is not known what the second one holds")
            plant.resume("worker-2")
            plant.drain()
        finally:
            plant.resume("worker-2")
            plant.stop(["worker-2"])


def workers(sql: Plain) -> int:
    """Those that have connections to the database."""
    return int(sql.one(broker.CONNECTED_WORKERS))
