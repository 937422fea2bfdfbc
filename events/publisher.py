"""Publishing with confirms: many messages under way at once, each one accounted for.

Of one `deliver`: rows of one type that follow each other share a message, all messages are sent, then their
confirms are awaited together. A row counts as delivered only when the broker confirmed its message and had a queue
for it. A broker that is short of memory or disk blocks its publishers: then nothing is sent, for any time, and the
connection is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import amqp
from amqp.exceptions import AMQPError
from kombu import Connection
from kombu.exceptions import KombuError

from events import contract, foreign, tls, topology
from events.errors import BrokerGone, Unconfirmed, Unroutable
from events.outbox import Row

log = logging.getLogger(__name__)
CONNECT_SECONDS: Final = 3  # for one address
CONFIRM_SECONDS: Final = 10.0  # the longest wait for the broker's word on a batch
HEARTBEAT_SECONDS: Final = 20
PERSISTENT: Final = 2
LOST: Final = (AMQPError, OSError, EOFError)  # what a lost or closed connection looks like


@dataclass(frozen=True)
class Outgoing:
    """One message: an encoded batch and the outbox ids that it carries."""

    ids: list[int]
    type: str
    body: bytes
    traceparents: list[str]  # of the traced events, in their order


class Watcher:
    """Hears what a publisher does; this one keeps it to itself. Called on the way: be quick."""

    def sending(self, message: Outgoing) -> str | None:
        """A message is about to be sent; the trace context that its header shall carry, if any."""
        return None

    def confirmed(self, messages: int, seconds: float) -> None:
        """The broker has so many messages, after so long."""

    def ended(self) -> None:
        """A delivery has ended, well or not."""


def messages(rows: Sequence[Row]) -> Iterator[Outgoing]:
    """Pack rows that follow each other and have one type, up to the contract's limits, never reordered."""
    ids: list[int] = []
    parts: list[bytes] = []
    traced: list[str] = []
    size, kind = 2, ""
    for row in rows:
        part = contract.encode_one(contract.event(*row[1:]))
        full = len(ids) == contract.MOST_EVENTS or size + len(part) + 1 > contract.MOST_BYTES
        if ids and (row.type != kind or full):
            yield Outgoing(ids, kind, contract.join(parts), traced)
            ids, parts, traced, size = [], [], [], 2
        kind = row.type
        ids.append(row.id)
        if row.traceparent:
            traced.append(row.traceparent)
        parts.append(part)
        size += len(part) + 1
    if ids:
        yield Outgoing(ids, kind, contract.join(parts), traced)


def connect(url: str, name: str, **options: Any) -> Connection:
    """An open connection with deadlines on connecting, reading and writing, to the first address that answers.

    Raises BrokerGone when none does.
    """
    foreign.tolerate()
    plain, encryption = tls.split(url)
    connection = Connection(
        plain,
        ssl=encryption,
        heartbeat=HEARTBEAT_SECONDS,
        connect_timeout=CONNECT_SECONDS,
        transport_options={
            "read_timeout": 15,
            "write_timeout": 15,
            "client_properties": {"connection_name": f"citycache {name}"},
            **options,
        },
    )
    _open(connection)
    return connection


def move_on(connection: Connection) -> None:
    """Connect to the next address that answers, which is the same where there is only one; raises BrokerGone."""
    connection.maybe_switch_next()
    _open(connection)


def _open(connection: Connection) -> None:
    attempts = max(2, len(connection.alt))
    try:
        connection.ensure_connection(max_retries=attempts - 1, interval_start=0, timeout=CONNECT_SECONDS * attempts)
    except (*LOST, KombuError) as failure:
        connection.close()
        raise BrokerGone(f"the broker at {connection.as_uri()} does not answer: {failure}") from failure


class Publisher:
    """One connection and one channel in confirm mode; after any doubt both are closed and must be made anew."""

    def __init__(
        self, url: str, while_waiting: Callable[[], None] = lambda: None, watcher: Watcher | None = None
    ) -> None:
        """`while_waiting` is called while the broker keeps us waiting."""
        self.connection = connect(url, "relay")
        self._while_waiting, self._watcher = while_waiting, watcher or Watcher()
        try:
            self._channel = self._open_channel()
        except LOST as failure:
            self.close()
            raise BrokerGone(f"the broker closed the connection: {failure!r}") from failure
        self._is_blocked = False
        self.connection.connection.on_blocked = self._on_blocked
        self.connection.connection.on_unblocked = self._on_unblocked
        self._last_tag = 0
        self._waiting: dict[int, str] = {}  # delivery tag → message id
        self._refused: dict[str, str] = {}  # message id → why

    def deliver(self, rows: Sequence[Row]) -> list[int]:
        """Publish; the ids of the rows that the broker has. Raises BrokerGone, Unconfirmed or Unroutable."""
        sent: dict[str, list[int]] = {}
        began = time.monotonic()
        self._refused.clear()
        try:
            for message in messages(rows):
                self._await_unblocked()
                sent[self._publish(message)] = message.ids
            self._await_confirms()
        except LOST as failure:
            raise BrokerGone(f"the connection to the broker is lost: {failure!r}") from failure
        finally:
            self._watcher.ended()
        delivered = [row for name, ids in sent.items() if name not in self._refused for row in ids]
        if self._refused and not delivered:
            raise Unroutable("; ".join(sorted(set(self._refused.values()))))
        self._watcher.confirmed(len(sent) - len(self._refused), time.monotonic() - began)
        return delivered

    def heartbeat(self) -> None:
        """Send and check heartbeats, and take in what the broker says; call it when idle. Raises BrokerGone."""
        try:
            self.connection.heartbeat_check()
            self._drain(0)
        except LOST as failure:
            raise BrokerGone(f"the connection to the broker is lost: {failure!r}") from failure

    def close(self) -> None:
        """Drop the socket without asking a broker that may not answer."""
        with suppress(*LOST):
            self.connection.collect(socket_timeout=1)

    def _open_channel(self) -> Any:
        channel: Any = self.connection.channel()
        topology.declare(channel)
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        return channel

    def _publish(self, message: Outgoing) -> str:
        name = str(uuid4())
        trace = self._watcher.sending(message)
        properties = {
            "content_type": contract.BATCH,
            "delivery_mode": PERSISTENT,
            "message_id": name,
            "timestamp": int(time.time()),  # for replays since an instant
            "application_headers": {
                "cloudEvents:type": message.type,
                "cloudEvents:count": len(message.ids),
                **({"traceparent": trace} if trace else {}),
            },
        }
        self._channel.basic_publish(
            amqp.Message(message.body, **properties),
            exchange=topology.EVENTS.name,
            routing_key=message.type,
            mandatory=True,
        )
        self._last_tag += 1
        self._waiting[self._last_tag] = name
        return name

    def _await_confirms(self) -> None:
        deadline = time.monotonic() + CONFIRM_SECONDS
        while self._waiting:
            if time.monotonic() > deadline:
                raise Unconfirmed(f"the broker left {len(self._waiting)} messages unconfirmed for {CONFIRM_SECONDS} s")
            if self._is_blocked:
                self._await_unblocked()
                deadline = time.monotonic() + CONFIRM_SECONDS
            self._drain(1.0)
            self._while_waiting()

    def _await_unblocked(self) -> None:
        while self._is_blocked:
            self._drain(1.0)
            self._while_waiting()

    def _drain(self, seconds: float) -> None:
        try:
            self.connection.drain_events(timeout=seconds or 0.0001)
        except TimeoutError:
            self.connection.heartbeat_check()

    def _on_blocked(self, reason: str) -> None:
        log.warning("the broker blocks publishers: it is short of memory or disk; events wait in the outbox")
        self._is_blocked = True

    def _on_unblocked(self) -> None:
        log.info("the broker takes messages again")
        self._is_blocked = False

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for done in self._covered(tag, multiple):
            self._waiting.pop(done, None)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for refused in self._covered(tag, multiple):
            if name := self._waiting.pop(refused, None):
                self._refused[name] = "the broker refused a message"

    def _covered(self, tag: int, multiple: bool) -> list[int]:
        return [waiting for waiting in self._waiting if waiting <= tag] if multiple else [tag]

    def _on_return(self, failure: Exception, exchange: str, routing_key: str, message: Any) -> None:
        self._refused[message.properties["message_id"]] = f"no queue is bound for {routing_key!r}"
