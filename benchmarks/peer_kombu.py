"""Peer: a bare program that publishes each event as a message of its own, confirmed into a quorum queue and a stream,
and another that consumes them at the same time. It does nothing with them; it is what the broker costs at least."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from typing import Any, Final
from uuid import uuid4

import amqp
from kombu import Connection, Exchange, Queue

from events import contract

EXCHANGE: Final = Exchange("bench.events", "topic", durable=True)
QUORUM: Final = Queue(
    "bench.quorum", EXCHANGE, routing_key="catalog.#", durable=True, queue_arguments={"x-queue-type": "quorum"}
)
STREAM: Final = Queue(
    "bench.stream", EXCHANGE, routing_key="catalog.#", durable=True, queue_arguments={"x-queue-type": "stream"}
)
KIND: Final = "catalog.product.updated"
WINDOW: Final = 1_000  # messages without a confirm
PREFETCH: Final = 1_000
ACK_EVERY: Final = 200
ROW: Final = (
    '{"id":%d,"external_id":"product-%d","company_id":123,"name":"Product %d","kind":"product","is_active":true,'
    '"created_at":"2026-01-01T00:00:00+00:00","updated_at":"2026-01-01T00:00:00.123456+00:00"}'
)
_processes = multiprocessing.get_context("spawn")


def seconds(url: str, events: int) -> float:
    """Seconds from the first publishing to the last acknowledgement, publisher and consumer side by side."""
    declare(url)
    ready, ends = _processes.Event(), _processes.Queue()
    consumer = _processes.Process(target=consume, args=(url, events, ready, ends), daemon=True)
    publisher = _processes.Process(target=publish, args=(url, events, ready, ends), daemon=True)
    for process in (consumer, publisher):
        process.start()
    try:
        instants = dict(ends.get(timeout=600) for _ in range(2))
        return float(instants["consumed"] - instants["began"])
    finally:
        for process in (consumer, publisher):
            process.join(10)
            process.kill()
        forget(url)


def declare(url: str) -> None:
    """Make the queues anew."""
    forget(url)
    with Connection(url) as connection:
        for queue in (QUORUM, STREAM):
            queue(connection.default_channel).declare()


def forget(url: str) -> None:
    """Delete the queues."""
    with Connection(url) as connection:
        for queue in (QUORUM, STREAM):
            queue(connection.default_channel).delete()


def body(number: int) -> bytes:
    """One event as the product writes it when it is alone."""
    row = ROW % (number, number, number)
    event = contract.event(
        str(uuid4()), KIND, f"product/{number}", "2026-01-01T00:00:00.123456Z", row, row.replace("123,", "124,"), None
    )
    return contract.encode([event])


def publish(url: str, events: int, ready: Any, ends: Any) -> None:
    """Publish when the consumer is ready."""
    bodies = [body(number) for number in range(200)]
    ready.wait(60)
    ends.put(("began", time.time()))
    publish_all(url, EXCHANGE.name, events, len(bodies), bodies)


def publish_all(url: str, exchange: str, events: int, products: int, bodies: list[bytes] | None = None) -> None:
    """Publish events of these products one a message, with pipelined confirms."""
    with Connection(url) as connection:
        channel: Any = connection.channel()
        channel.confirm_select()
        waiting: set[int] = set()
        channel.events["basic_ack"].add(lambda tag, multiple: _confirm(waiting, tag, multiple))
        for number in range(1, events + 1):
            content = bodies[number % products] if bodies else body(1 + number % products)
            message = amqp.Message(
                content, content_type=contract.BATCH, delivery_mode=2, message_id=str(number),
                application_headers={"cloudEvents:type": KIND, "cloudEvents:count": 1},
            )  # fmt: skip
            waiting.add(number)
            channel.basic_publish(message, exchange=exchange, routing_key=KIND, mandatory=True)
            while len(waiting) >= WINDOW:
                connection.drain_events(timeout=10)
        while waiting:
            connection.drain_events(timeout=10)


def _confirm(waiting: set[int], tag: int, multiple: bool) -> None:
    if multiple:
        waiting.difference_update([number for number in waiting if number <= tag])
    else:
        waiting.discard(tag)


def consume(url: str, events: int, ready: Any, ends: Any) -> None:
    """Consume and acknowledge, many at a time."""
    with Connection(url) as connection:
        channel: Any = connection.channel()
        channel.basic_qos(0, PREFETCH, False)
        got = 0

        def on_message(message: Any) -> None:
            nonlocal got
            got += 1
            if got % ACK_EVERY == 0 or got == events:
                channel.basic_ack(message.delivery_tag, multiple=True)

        channel.basic_consume(QUORUM.name, callback=on_message)
        ready.set()
        while got < events:
            connection.drain_events(timeout=30)
        ends.put(("consumed", time.time()))


def read_stream(url: str, queue: str, events: int) -> float:
    """Seconds to read this many events of a stream from its start, decoding nothing; batches count by their header."""
    with Connection(url) as connection:
        channel: Any = connection.channel()
        channel.basic_qos(0, PREFETCH, False)
        got, unacknowledged = 0, deque[int]()

        def on_message(message: Any) -> None:
            nonlocal got
            got += int(message.headers.get("cloudEvents:count", 1))
            unacknowledged.append(message.delivery_tag)
            if len(unacknowledged) >= ACK_EVERY:
                channel.basic_ack(unacknowledged[-1], multiple=True)
                unacknowledged.clear()

        begun = time.monotonic()
        channel.basic_consume(queue, callback=on_message, arguments={"x-stream-offset": "first"})
        while got < events:
            connection.drain_events(timeout=30)
        return time.monotonic() - begun
