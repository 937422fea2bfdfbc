"""A cluster of three RabbitMQ nodes: the leader of queue and log is killed under load, and nothing is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import pytest

from backend.embedded import spawn
from backend.embedded.rabbitmq import RabbitMQ
from events import stream, topology
from events.errors import BrokerGone
from tests.faults.captured import captured, logged, note_captured
from tests.faults.plant import QUIET, Plant
from tests.plain import Plain
from tests.servers import Databases
from tests.waiting import until

EVENTS_A_SECOND = 1_000
STEP = 0.05  # seconds
FLOWS_AGAIN = 15.0  # seconds
ADD = """
    INSERT INTO companies (name, city_id)
    SELECT 'c', (SELECT min(id) FROM cities) FROM generate_series(1, %s)"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RabbitMQ]]:
    """Three nodes that have joined each other; the first one's port mapper serves all."""
    with ExitStack() as stack:
        first = RabbitMQ(tmp_path_factory.mktemp("node"))
        stack.callback(first.kill)
        first.begin()
        nodes = [first]
        for _ in range(2):
            node = RabbitMQ(
                tmp_path_factory.mktemp("node"),
                cookie=first.cookie,
                credentials=first.credentials,
                port_mapper=first.port_mapper,
            )
            stack.callback(node.kill)
            node.begin()
            nodes.append(node)
        for node in nodes:
            node.await_ready()
        for node in nodes[1:]:
            node.join(first)
        yield nodes


@pytest.fixture(scope="module")
def plant(databases: Databases, nodes: list[RabbitMQ], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A pipeline whose parts know all three addresses."""
    addresses = ";".join(node.url for node in nodes)
    with (
        databases.migrated() as database,
        Plant(database, addresses, tmp_path_factory.mktemp("plant"), **QUIET) as plant,
    ):
        yield plant.started(["relay", "worker", "api"])


def queues(node: RabbitMQ) -> dict[str, dict[str, object]]:
    """Leader and members of each queue, as one node sees them."""
    listed = json.loads(node.ctl("list_queues", "name", "leader", "members", "--formatter", "json"))
    return {queue["name"]: queue for queue in listed}


def seconds_until_flow(plant: Plant, sql: Plain) -> float:
    """From now until a change that is made now is cached."""
    (company,) = sql.column(ADD + " RETURNING id", [1])
    cached = "SELECT EXISTS (SELECT FROM company_city_mapping WHERE company_id = %s)"
    return plant.wait_until(lambda: sql.one(cached, [company]), 60, "events flow again")


def test_queue_and_log_are_on_all_three_nodes(plant: Plant, nodes: list[RabbitMQ]):
    found = queues(nodes[0])
    names = {node.node for node in nodes}
    for queue in (topology.UPDATER.name, topology.LOG_NAME, topology.DEAD_LETTERS.name):
        assert set(found[queue]["members"]) == names  # type: ignore[call-overload]


@contextmanager
def without_replica(node: RabbitMQ, of: RabbitMQ) -> Iterator[RabbitMQ]:
    """One node's replica of the log is away; the other node is asked for that."""
    of.ctl("delete_replica", topology.LOG_NAME, node.node, tool="rabbitmq-streams")
    try:
        yield node
    finally:
        add_replica(node, of)


def add_replica(node: RabbitMQ, of: RabbitMQ) -> None:
    """Harmless when it is there."""
    of.ctl("add_replica", topology.LOG_NAME, node.node, tool="rabbitmq-streams")


def test_the_log_is_read_from_the_node_that_has_it(plant: Plant, nodes: list[RabbitMQ]):
    with without_replica(nodes[2], of=nodes[0]) as bare:
        with closing(stream.StreamLog(f"{bare.url};{nodes[0].url}")) as source:
            assert source.beginning().offset == 0
        with pytest.raises(BrokerGone, match=r"no node of the broker gives the log: .* replica"):
            stream.StreamLog(bare.url)


def test_the_log_waits_for_a_node_that_has_just_started(
    plant: Plant, nodes: list[RabbitMQ], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stream, "REPLICA_SECONDS", 60)
    with without_replica(nodes[2], of=nodes[0]) as bare, ThreadPoolExecutor() as threads:
        source = threads.submit(stream.StreamLog, bare.url)
        with pytest.raises(TimeoutError):
            source.result(1)
        add_replica(bare, of=nodes[0])
        source.result(60).close()


@pytest.mark.parametrize("queue", [topology.UPDATER.name, topology.LOG_NAME])
def test_a_killed_leader_costs_no_event_and_less_than_15_seconds(
    plant: Plant, nodes: list[RabbitMQ], queue: str, request: pytest.FixtureRequest
):
    with plant.sql() as sql:
        if not sql.one("SELECT to_regclass('captured') IS NOT NULL"):
            note_captured(sql)
        leader = next(node for node in nodes if node.node == queues(nodes[0])[queue]["leader"])
        with plant.writing(ADD, int(EVENTS_A_SECOND * STEP), STEP):
            assert seconds_until_flow(plant, sql) < 5
            assert leader.pid is not None
            spawn.signal_stranger(leader.pid, signal.SIGKILL)
            seconds = seconds_until_flow(plant, sql)
            request.node.user_properties.append(("seconds until events flowed again", round(seconds, 1)))
            until(lambda: leader.pid is None, 5, "the node is dead")
        assert seconds < FLOWS_AGAIN
        plant.drain(60)
        leader.start()
        until(lambda: len(json.loads(nodes[0].ctl("cluster_status", "--formatter", "json"))["running_nodes"]) == 3, 60)
        assert plant.violations() == []
        assert captured(sql) - set(logged(plant.broker)) == set()
