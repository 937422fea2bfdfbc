"""Publishing with confirms: a row counts as delivered only when the broker has it and has a queue for it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from kombu import Connection

from events import contract, topology
from events.errors import BrokerGone, Unroutable
from events.outbox import Row
from events.publisher import Publisher
from tests.servers import Vhosts
from tests.waiting import until


@pytest.fixture
def publisher(broker: str) -> Iterator[Publisher]:
    publisher = Publisher(broker)
    yield publisher
    publisher.close()


@pytest.fixture
def channel(broker: str) -> Iterator[Any]:
    with Connection(broker) as connection:
        yield connection.channel()


def rows(*ids: int, kind: str = "catalog.product.updated") -> list[Row]:
    image = json.dumps({"id": 1, "name": "x"})
    return [Row(n, f"event-{n}", kind, f"product/{n}", "2026-01-01T00:00:00.000000Z", image, image, None) for n in ids]


def get(channel: Any, queue: str = topology.UPDATER.name) -> Any:
    """The next message of a queue, waited for."""
    found: list[Any] = []

    def look() -> bool:
        message = channel.basic_get(queue, no_ack=True)
        found.extend([message] if message else [])
        return bool(found)

    until(look, what=f"a message in {queue}")
    return found[0]


def bound(channel: Any, queue: Any, keys: tuple[str, ...], bind: bool) -> None:
    """Bind or unbind a queue."""
    for key in keys:
        (channel.queue_bind if bind else channel.queue_unbind)(queue.name, topology.EVENTS.name, key)


def test_a_batch_arrives_as_the_contract_says(publisher: Publisher, channel: Any) -> None:
    assert publisher.deliver(rows(1, 2)) == [1, 2]

    message = get(channel)
    properties, headers = message.properties, message.headers
    assert message.delivery_info["routing_key"] == "catalog.product.updated"
    assert message.delivery_info["exchange"] == "catalog.events"
    assert properties["content_type"] == "application/cloudevents-batch+json"
    assert properties["delivery_mode"] == 2
    assert headers["cloudEvents:type"] == "catalog.product.updated"
    assert headers["cloudEvents:count"] == 2
    first, second = json.loads(message.body)
    assert (first["id"], first["subject"], first["specversion"]) == ("event-1", "product/1", "1.0")
    assert first["data"] == {"before": {"id": 1, "name": "x"}, "after": {"id": 1, "name": "x"}, "changed": []}
    assert second["id"] == "event-2"


def test_every_message_has_a_name_of_its_own(publisher: Publisher, channel: Any) -> None:
    publisher.deliver([*rows(1), *rows(2, kind="catalog.product.deleted"), *rows(3)])

    messages = [get(channel) for _ in range(3)]
    assert len({message.properties["message_id"] for message in messages}) == 3
    assert [message.headers["cloudEvents:type"] for message in messages] == [
        "catalog.product.updated",
        "catalog.product.deleted",
        "catalog.product.updated",
    ]


@pytest.mark.parametrize("kind", contract.TYPES)
def test_every_type_of_event_reaches_the_updater(broker: str, kind: str) -> None:
    publisher = Publisher(broker)

    assert publisher.deliver(rows(1, kind=kind)) == [1]

    assert get(publisher.connection.channel()).headers["cloudEvents:type"] == kind
    publisher.close()


def test_many_messages_are_under_way_at_once_and_all_are_confirmed(publisher: Publisher, channel: Any) -> None:
    kinds = ("catalog.product.updated", "catalog.product.created")
    many = [row for n in range(600) for row in rows(n, kind=kinds[n % 2])]

    begin = time.monotonic()
    assert publisher.deliver(many) == list(range(600))
    assert time.monotonic() - begin < 5

    until(lambda: channel.queue_declare(topology.UPDATER.name, passive=True).message_count == 600)


def test_what_no_queue_takes_is_not_delivered(publisher: Publisher, channel: Any) -> None:
    bound(channel, topology.LOG, ("catalog.#",), bind=False)
    bound(channel, topology.UPDATER, ("catalog.city.*",), bind=False)
    mixed = [*rows(1), *rows(2, kind="catalog.city.updated"), *rows(3)]

    assert publisher.deliver(mixed) == [1, 3]
    with pytest.raises(Unroutable, match=r"catalog\.city\.updated"):
        publisher.deliver(rows(2, kind="catalog.city.updated"))

    bound(channel, topology.LOG, ("catalog.#",), bind=True)
    assert publisher.deliver(rows(2, kind="catalog.city.updated")) == [2]


def test_what_a_full_queue_refuses_is_not_delivered(publisher: Publisher, broker: str, vhosts: Vhosts) -> None:
    policy = {
        "pattern": r"^city-cache\.events$",
        "apply-to": "queues",
        "definition": {"max-length": 1, "overflow": "reject-publish"},
    }
    vhosts.request("PUT", f"policies/{broker.rpartition('/')[2]}/full", json.dumps(policy).encode())

    def refused() -> bool:
        kinds = ("catalog.product.updated", "catalog.product.created") * 4
        offered = [row for n, kind in enumerate(kinds) for row in rows(n, kind=kind)]
        try:
            return len(publisher.deliver(offered)) < len(offered)
        except Unroutable:
            return True

    until(refused, 10, "the broker refuses what its queue has no room for")


def test_a_closed_connection_is_noticed(broker: str, vhosts: Vhosts) -> None:
    publisher = Publisher(broker)
    publisher.deliver(rows(1))
    _close_all(vhosts, broker)

    def notices() -> bool:
        try:
            publisher.heartbeat()
        except BrokerGone:
            return True
        return False

    until(notices)
    with pytest.raises(BrokerGone):
        publisher.deliver(rows(2))
    publisher.close()

    again = Publisher(broker)
    assert again.deliver(rows(2)) == [2]
    again.close()


def _close_all(vhosts: Vhosts, broker: str) -> None:
    vhost = broker.rpartition("/")[2]

    def connections() -> Any:
        return json.loads(vhosts.request("GET", f"vhosts/{vhost}/connections"))

    until(connections, 15, "the management plugin lists the connection")
    for connection in connections():
        vhosts.request("DELETE", f"connections/{connection['name']}")


def test_a_broker_that_is_not_there_is_said_within_seconds() -> None:
    begin = time.monotonic()

    with pytest.raises(BrokerGone, match="does not answer"):
        Publisher("amqp://guest:guest@127.0.0.1:9//")

    assert time.monotonic() - begin < 8


def test_the_last_address_of_several_is_reached(broker: str) -> None:
    nobody = "amqp://guest:guest@127.0.0.1:9//"

    Publisher(";".join([nobody, nobody, nobody, broker])).close()


def test_declaring_twice_changes_nothing(publisher: Publisher, channel: Any) -> None:
    publisher.deliver(rows(1))

    topology.declare(channel)
    topology.declare(channel)

    assert get(channel).headers["cloudEvents:count"] == 1


def test_the_log_keeps_what_the_exchange_carried(publisher: Publisher, channel: Any) -> None:
    publisher.deliver([*rows(1), *rows(2, kind="catalog.city.deleted")])
    channel.basic_qos(0, 10, False)
    arrived: list[Any] = []
    channel.basic_consume(
        topology.LOG.name, callback=arrived.append, arguments={"x-stream-offset": "first"}, no_ack=False
    )

    until(lambda: _drain(channel) or len(arrived) == 2)

    assert [message.headers["x-stream-offset"] for message in arrived] == [0, 1]
    assert [message.headers["cloudEvents:type"] for message in arrived] == [
        "catalog.product.updated",
        "catalog.city.deleted",
    ]


def _drain(channel: Any) -> None:
    with suppress(TimeoutError):
        channel.connection.drain_events(timeout=0.1)
