"""Servers that are short of something: a broker that blocks its publishers, an outbox that an outage has filled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from backend.embedded.rabbitmq import RabbitMQ
from tests.faults.length import short_or
from tests.faults.plant import QUIET, Plant, plant_on
from tests.plain import Plain
from tests.servers import Databases, Vhosts
from tests.waiting import until

WRITE = "INSERT INTO companies (name, city_id) SELECT 'c', min(id) FROM cities"
BLOCKED_SECONDS = short_or(12.0, 60.0)  # longer than two heartbeats of 20 s
OUTAGE_ROWS = short_or(60_000, 720_000)  # an hour at 200 writes a second
FULL_SPEED = 3_000  # rows a second that must at least drain, on a machine that does other things as well


@pytest.fixture
def alarmed(database: str, own_rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Plant]:
    """Relay and worker on a broker whose memory limit the test may change."""
    with Plant(database, own_rabbitmq.url, tmp_path / "system", **QUIET) as plant:
        yield plant.started(["relay", "worker"])


def test_writers_go_on_while_the_broker_blocks_and_everything_drains_afterwards(alarmed: Plant, own_rabbitmq: RabbitMQ):
    with alarmed.sql() as sql:
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        times = write_for(BLOCKED_SECONDS, sql)
        assert max(times) < 1
        assert sql.one("SELECT count(*) FROM event_outbox") > 0.8 * len(times), "the outbox grows"
        assert "blocked" in own_rabbitmq.ctl("list_connections", "state")

        own_rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1GB")
        alarmed.drain(30)
    assert alarmed.violations() == []
    assert alarmed.log("relay").count("relay leads") == 1, "it kept its connections: heartbeats went on"
    assert "connection" not in warnings(alarmed.log("worker"))


def write_for(seconds: float, sql: Plain) -> list[float]:
    """Write about 100 rows a second; how long each took."""
    times, pace, end = [0.0], Event(), time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        sql.run(WRITE)
        times.append(time.monotonic() - begin)
        pace.wait(0.01)
    return times


def warnings(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if " WARNING " in line or " ERROR " in line)


@pytest.fixture
def filled(databases: Databases, vhosts: Vhosts, tmp_path: Path) -> Iterator[tuple[Plant, Plain]]:
    """A pipeline whose relay stands still, and whose outbox holds what an outage has left there."""
    with plant_on(databases, vhosts, tmp_path) as plant, plant.sql() as sql:
        plant.started(["relay", "worker"])
        sql.run("INSERT INTO companies (name, city_id) SELECT 'c', id FROM cities, generate_series(1, 1000)")
        plant.drain()
        plant.stop(["relay"])
        sql.run(
            "INSERT INTO event_outbox (type, subject, before, after)"
            " SELECT 'catalog.company.updated', 'company/' || id, row_to_json(c), row_to_json(c)"
            " FROM companies AS c, generate_series(1, %s / 1000) LIMIT %s",
            [OUTAGE_ROWS, OUTAGE_ROWS],
        )
        yield plant, sql


def test_an_outage_drains_at_full_speed_and_gives_its_disk_back(filled: tuple[Plant, Plain]):
    plant, sql = filled
    full = size(sql)
    plant.start(["relay"])
    seconds = until(lambda: not sql.one("SELECT EXISTS (SELECT FROM event_outbox)"), 300, "the outbox is empty")
    assert OUTAGE_ROWS / seconds > FULL_SPEED
    plant.drain(120)
    assert plant.violations() == []
    until(lambda: size(sql) < full / 20, 60, "vacuum gives the room back")


def size(sql: Plain) -> int:
    """Bytes of the outbox on the disk, its index included."""
    return int(sql.one("SELECT pg_total_relation_size('event_outbox')"))
