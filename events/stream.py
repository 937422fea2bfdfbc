"""The log where the broker has streams: read `catalog.events.log` from an offset or an instant to its present end.

A stream has no end of its own, so a marker is published straight into it and read up to. Timestamps find the chunk
that holds an instant, so a reading begins a little before it; the reader filters each event.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import amqp
from amqp.exceptions import NotFound
from kombu import Connection

from events import contract, times, topology
from events.connection import LOST, connect, move_on
from events.contract import Event
from events.errors import BrokerGone, EventError, LogMissing, LogTooShort, NoStreams
from events.log import Beginning, Logged, Start

CONSUMER: Final = "replay"  # consumer tag, one a channel
_MARKER: Final = re.compile(r"[0-9a-f-]{36}")
MARKER: Final = "application/x-citycache-marker"  # content type of messages that only mark a place
GLIMPSE: Final = 20  # messages that a look at the log's beginning is given at once
MOST_MARKERS: Final = 5_000  # that it reads on past
PREFETCH: Final = 400  # messages on their way; half of them are acknowledged at a time
REPLICA_SECONDS: Final = 5.0  # for a node that has just started to get its replica of the log
REPLICA_POLL_SECONDS: Final = 0.1
READ_AHEAD: Final = 8_192  # bytes; each part of a frame is cut off what was read, so much more would cost more
DRAIN_SECONDS: Final = 1.0  # between two looks at heartbeats and deadlines
EMPTY_SECONDS: Final = 2.0  # after which a log that gives no message has no more
SILENCE_SECONDS: Final = 15.0  # without any message before the marker the stream counts as stalled


class StreamLog:
    """One reading connection, to a node that has the log. Everything raises BrokerGone when the broker is lost."""

    def __init__(self, url: str, since: datetime | None = None, makes: bool = True) -> None:
        """`since`: when it became the log, after another one; `makes`: whether to make one where there is none.

        Raises NoStreams where the broker has none, LogMissing where it is not to be made.
        """
        self._since = since
        self._connection: Connection = connect(url, "replay")
        try:
            if makes:
                self._make()
            else:
                self._messages_there()
            self._find_replica()
        except LOST as failure:
            self.close()
            raise BrokerGone(f"the broker closed the connection: {failure!r}") from failure
        except EventError:
            self.close()
            raise

    def _make(self) -> None:
        topology.declare(self._connection.channel())
        if refusal := topology.declare_log(self._connection):
            raise NoStreams(refusal)

    def _messages_there(self) -> int:
        """How many messages the log has, about. Raises LogMissing, and BrokerGone while the broker cannot reach it."""
        channel: Any = self._connection.channel()
        try:
            return int(channel.queue_declare(topology.LOG_NAME, passive=True).message_count)
        except NotFound as failure:
            if topology.is_missing(failure):
                raise LogMissing from failure
            raise BrokerGone(f"the broker does not reach the log: {failure.reply_text}") from failure
        finally:
            if channel.is_open:
                channel.close()

    def close(self) -> None:
        """Give up the connection."""
        self._connection.collect(socket_timeout=1)

    def beginning(self) -> Beginning:
        """Where the log begins; markers of earlier readings may come before its first event."""
        first: int | None = None
        for offset, message in self._messages("first", self.new_marker(), mark=True):
            first = offset if first is None else first
            if message.properties.get("content_type") != MARKER:
                return self._beginning(first, _oldest(_logged(offset, message)))
        return self._beginning(first or 0, None)

    def glimpse(self) -> Beginning | None:
        """The same, but nothing is written for it; None where nobody can say: MOST_MARKERS markers come before an
        event, or the broker counts more than it gives. It counts too few for a while, none when it has just started."""
        first: int | None = None
        seen, received = 0, deque[Any]()
        with self._reading("first", received, GLIMPSE) as channel:
            while seen < MOST_MARKERS and self._comes(received, EMPTY_SECONDS):
                message = received.popleft()
                offset = _offset(message, 0)
                first = offset if first is None else first
                if message.properties.get("content_type") != MARKER:
                    return self._beginning(first, _oldest(_logged(offset, message)))
                channel.basic_ack(message.delivery_tag)
                seen += 1
        is_all = seen < MOST_MARKERS and self._messages_there() <= seen
        return self._beginning(first or 0, None) if is_all else None

    def _beginning(self, offset: int, oldest: str | None) -> Beginning:
        """Beside an older message there may be nothing: only what was dropped is missing."""
        dropped = times.seconds(oldest) if offset > 0 else None
        became = self._since.timestamp() if self._since else None
        return Beginning(offset, oldest, max((at for at in (dropped, became) if at is not None), default=None))

    def end(self) -> int:
        """About the last offset: the first of the last chunk."""
        received: deque[Any] = deque()
        with self._reading("last", received):
            self._await(received)
            return _offset(received[0], 0)

    def new_marker(self) -> str:
        """A name for a message in the stream, by which a reading ends."""
        return str(uuid4())

    def knows(self, marker: str) -> bool:
        """Whether it is such a name."""
        return _MARKER.fullmatch(marker) is not None

    def read(self, start: Start, marker: str, mark: bool = False) -> Iterator[Logged]:
        """Messages from `start` (an offset, an aware instant, or 'first') up to the marker.

        `mark` publishes the marker now, at the log's present end. The reading is attached before that and not beyond
        the end, so it comes to its marker wherever `start` is. An offset can only be asked for in a log that is not
        empty. Raises LogTooShort when the log has dropped that offset, BrokerGone when nothing comes.
        """
        for offset, message in self._messages(start, marker, mark):
            if message.properties.get("content_type") != MARKER and not (isinstance(start, int) and offset < start):
                yield _logged(offset, message)

    def _messages(self, start: Start, marker: str, mark: bool) -> Iterator[tuple[int, Any]]:
        """Offsets and messages before the marker, other markers as well."""
        received: deque[Any] = deque()
        attached = min(start, self.end()) if isinstance(start, int) else _start(start)
        with self._reading(attached, received) as channel:
            if mark:
                self._publish(marker)
            yield from self._until_marker(channel, received, start, marker)

    def _find_replica(self) -> None:
        """Stay where the log can be read: not every node of a cluster has it, and one that has just started not yet."""
        deadline = time.monotonic() + REPLICA_SECONDS
        while True:
            _read_ahead(self._connection)
            try:
                with self._reading("next", deque()):
                    return
            except BrokerGone as failure:
                if time.monotonic() > deadline:
                    raise BrokerGone(f"no node of the broker gives the log: {failure.__cause__!r}") from failure
            time.sleep(REPLICA_POLL_SECONDS)
            move_on(self._connection)

    @contextmanager
    def _reading(self, start: Any, received: deque[Any], prefetch: int = PREFETCH) -> Iterator[Any]:
        """A channel on which messages from `start` on come into `received`; cancelled before it closes."""
        channel: Any = None
        try:
            channel = self._connection.channel()
            channel.basic_qos(0, prefetch, False)
            arguments = {"x-stream-offset": start}
            channel.basic_consume(topology.LOG_NAME, CONSUMER, callback=received.append, arguments=arguments)
            yield channel
        except LOST as failure:
            raise BrokerGone(f"the log's connection is lost: {failure!r}") from failure
        finally:
            if channel is not None:
                with suppress(*LOST):
                    channel.basic_cancel(CONSUMER)  # else deliveries under way would be taken for a fault
                    channel.close()

    def _publish(self, marker: str) -> None:
        message = amqp.Message(b"", content_type=MARKER, message_id=marker, delivery_mode=2)
        channel: Any = self._connection.channel()
        channel.confirm_select()
        channel.basic_publish_confirm(message, exchange="", routing_key=topology.LOG_NAME)
        channel.close()

    def _until_marker(self, channel: Any, received: deque[Any], start: Start, marker: str) -> Iterator[tuple[int, Any]]:
        unacknowledged, offset = 0, -1
        first = start if isinstance(start, int) else None
        is_checked = first is None
        with _transport(self._connection).having_timeout(DRAIN_SECONDS):  # else it is set and unset for each message
            while True:
                self._await(received)
                message = received.popleft()
                offset = _offset(message, offset + 1)
                if not is_checked:
                    is_checked = True
                    if first is not None and offset > first:
                        raise LogTooShort(f"the log begins at offset {offset}; offset {first} is not there any more")
                unacknowledged += 1
                if unacknowledged >= PREFETCH // 2:
                    channel.basic_ack(message.delivery_tag, multiple=True)
                    unacknowledged = 0
                is_marker = message.properties.get("content_type") == MARKER
                if is_marker and message.properties.get("message_id") == marker:
                    return
                yield offset, message

    def _await(self, received: deque[Any]) -> None:
        if not received and not self._comes(received, SILENCE_SECONDS):
            raise BrokerGone(f"the log gave no message for {SILENCE_SECONDS:.0f} s")

    def _comes(self, received: deque[Any], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not received and time.monotonic() < deadline:
            try:
                self._connection.drain_events(timeout=DRAIN_SECONDS)
            except TimeoutError:
                self._connection.heartbeat_check()
        return bool(received)


def _start(start: datetime | str) -> Any:
    """As the broker takes it: it knows no time before 1970, and no log has one."""
    if isinstance(start, datetime):
        return start.astimezone(UTC).replace(tzinfo=None) if start > times.EPOCH else "first"
    return start


def _oldest(logged: Logged) -> str | None:
    """The time of the oldest event of a message; that of the message, where an event's own says nothing."""
    written = [event.time for event in logged.events if isinstance(event, Event)]
    published = times.text(logged.published_at) if logged.published_at else None
    return times.earliest(written) or published


def _read_ahead(connection: Connection) -> None:
    """Ask the socket for more than a frame's next part: py-amqp asks nine times a message, and keeps what is over."""
    transport = _transport(connection)
    receive = transport._quick_recv
    transport._quick_recv = lambda size: receive(max(size, READ_AHEAD))


def _transport(connection: Connection) -> Any:
    """The AMQP client's own transport."""
    return connection.connection.transport


def _offset(message: Any, otherwise: int) -> int:
    """Where the message stands: where its headers cannot be read, after the one before."""
    said = (message.properties.get("application_headers") or {}).get("x-stream-offset")
    return said if isinstance(said, int) and said >= 0 else otherwise


def _logged(offset: int, message: Any) -> Logged:
    properties = message.properties
    body = message.body if isinstance(message.body, (bytes, str)) else bytes(message.body)
    headers = properties.get("application_headers") or {}
    events = list(contract.decode(body, properties.get("content_type") or "", headers))
    return Logged(offset, events, properties.get("timestamp"))
