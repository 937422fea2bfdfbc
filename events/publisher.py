"""Publishing outbox rows: whatever one of them is, all others arrive.

Of one `deliver`: rows of one type that follow each other share a message, all messages are sent, then their confirms
are awaited together. A row counts as delivered only when the broker confirmed its message and had a queue for it.

A broker that refuses a message closes the channel and does not say which one it was. Where it names the size that it
takes, all that is left is packed anew below that; else it is sent in halves until the culprit stands alone. Alone it
goes once more without its data (slim), and what is refused even then is buried. That is done only by a broker that has
taken others: one that refuses everything holds the events, as one that is away does.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from amqp.exceptions import AMQPError
from kombu import Connection

from events import contract, topology
from events.channel import REFUSED, Channel
from events.connection import LOST
from events.errors import BrokerGone, MessageRefused, NoStreams, Unroutable
from events.log import LogSource, WantedLog
from events.outbox import Row
from events.packing import Outgoing, encoded_slim, messages, slimmed

log = logging.getLogger(__name__)
_MOST_BYTES: Final = re.compile(r"max size (\d{1,12})")  # in what the broker says of a message that is too large
Thing = TypeVar("Thing")


class Bury(Protocol):
    """Makes a dead letter of an outbox row."""

    def __call__(self, row_id: int, reason: str, content_type: str, payload: str) -> None: ...


class PublisherWatcher:
    """Hears what a publisher does; this one keeps it to itself. Called on the way: be quick."""

    def sending(self, message: Outgoing) -> str | None:
        """A message is about to be sent; the trace context that its header shall carry, if any."""
        return None

    def confirmed(self, messages: int, seconds: float) -> None:
        """The broker has so many messages, after so long."""

    def slimmed(self, events: int) -> None:
        """So many events went without their data."""

    def buried(self) -> None:
        """An event that the broker refuses in any form has become a dead letter."""

    def ended(self) -> None:
        """A delivery has ended, well or not."""


@dataclass
class Fate:
    """What became of the rows of one delivery."""

    taken: list[Outgoing] = field(default_factory=list)
    held: dict[Outgoing, str] = field(default_factory=dict)  # wait for a queue or for room, and why
    hopeless: list[tuple[Row, str]] = field(default_factory=list)  # refused in any form, and why


class Publisher:
    """One channel in confirm mode; after any doubt it is made anew."""

    def __init__(
        self,
        url: str,
        while_waiting: Callable[[], None] = lambda: None,
        watcher: PublisherWatcher | None = None,
        bury: Bury | None = None,
        wanted: WantedLog = "auto",
    ) -> None:
        """`while_waiting` is called while the broker keeps us waiting; without `bury` nothing is given up.

        `wanted`: the log, `auto` for the stream where the broker has streams. Raises BrokerGone, NoStreams.
        """
        self._url, self._while_waiting, self._bury = url, while_waiting, bury
        self._watcher = watcher or PublisherWatcher()
        self._channel = Channel(url, while_waiting)
        self.log, self.no_stream = self._find_log(wanted)
        self._most_bytes: int | None = None  # of a message, once the broker has said so
        self._has_delivered = False

    def _find_log(self, wanted: WantedLog) -> tuple[LogSource, str | None]:
        """The log, and the broker's words where it has no stream."""
        if wanted == "table":
            return "table", None
        try:
            refusal = topology.declare_log(self._channel.connection)
        except LOST as failure:
            self.close()
            raise BrokerGone(f"the broker closed the connection: {failure!r}") from failure
        if refusal is None:
            return "stream", None
        self.close()
        if wanted == "stream":
            raise NoStreams(refusal)
        self._channel = Channel(self._url, self._while_waiting)  # a refusal may have cost the connection
        return "table", refusal

    @property
    def connection(self) -> Connection:
        """The one in use."""
        return self._channel.connection

    def deliver(self, rows: Sequence[Row]) -> list[int]:
        """Publish; the ids of the rows that the broker has.

        Raises BrokerGone, Unconfirmed, Unroutable or MessageRefused.
        """
        began, fate = time.monotonic(), Fate()
        try:
            self._send(messages(rows, self._most_bytes), fate)
        except LOST as failure:
            raise BrokerGone(f"the connection to the broker is lost: {failure!r}") from failure
        finally:
            self._watcher.ended()
        return self._settle(fate, time.monotonic() - began)

    def heartbeat(self) -> None:
        """Keep the connection alive; call it when idle. Raises BrokerGone."""
        try:
            self._channel.listen()
        except LOST as failure:
            raise BrokerGone(f"the connection to the broker is lost: {failure!r}") from failure

    def close(self) -> None:
        """Give up the connection."""
        self._channel.close()

    # One message is refused

    def _send(self, batch: Iterable[Outgoing], fate: Fate) -> None:
        coming = iter(batch)
        try:
            for message in coming:
                self._channel.send(message, self._watcher.sending(message))
            self._channel.await_confirms()
        except REFUSED as refusal:
            left = [*self._account(fate), *coming]
            self._channel.close()
            self._channel = Channel(self._url, self._while_waiting)
            self._send_apart(left, refusal, fate)
        else:
            self._account(fate)

    def _account(self, fate: Fate) -> list[Outgoing]:
        """Note what became of the messages; those of which nobody knows."""
        confirms = self._channel.confirms
        fate.taken += confirms.taken
        fate.held.update(confirms.held)
        return confirms.forget()

    def _send_apart(self, left: Sequence[Outgoing], refusal: AMQPError, fate: Fate) -> None:
        rows = [row for message in left for row in message.rows]
        reason = f"the broker refused it: {refusal.reply_text}"
        if self._learn(refusal):
            self._send(messages(rows, self._most_bytes), fate)
        elif len(rows) > 1:
            for half in _halves(rows):
                self._send(messages(half, self._most_bytes), fate)
        elif rows and rows[0].slim is None:
            self._send(messages([slimmed(rows[0], reason)]), fate)
        elif rows:
            fate.hopeless.append((rows[0], reason))

    def _learn(self, refusal: AMQPError) -> bool:
        """Whether the refusal names a size below which everything can be packed anew."""
        said = _MOST_BYTES.search(str(refusal.reply_text))
        if said is None or (self._most_bytes and int(said[1]) >= self._most_bytes):
            return False
        self._most_bytes = int(said[1])
        log.warning("the broker takes messages of at most %s bytes; larger events travel slim", self._most_bytes)
        return True

    # All are sent

    def _settle(self, fate: Fate, seconds: float) -> list[int]:
        delivered = [row_id for message in fate.taken for row_id in message.ids]
        self._has_delivered = self._has_delivered or bool(delivered)
        buried = self._bury_hopeless(fate)
        if not delivered and not buried:
            self._tell_held(fate)
        self._watcher.confirmed(len(fate.taken), seconds)
        self._tell_slim([row for message in fate.taken for row in message.slim])
        return delivered

    def _bury_hopeless(self, fate: Fate) -> int:
        """Also what no queue takes because the contract has no such type: no queue ever will."""
        strange = [message for message in fate.held if message.type not in contract.KNOWN]
        hopeless = [*fate.hopeless, *((row, fate.held[message]) for message in strange for row in message.rows)]
        ready = [(row, why) for row, why in hopeless if self._has_delivered or row.type not in contract.KNOWN]
        if self._bury is None:
            return 0
        for row, reason in ready:
            log.error("outbox row %s, %s of %s, becomes a dead letter: %s", row.id, row.type, row.subject, reason)
            self._bury(row.id, reason, contract.STRUCTURED, encoded_slim(slimmed(row, reason)).decode())
            self._watcher.buried()
        return len(ready)

    def _tell_held(self, fate: Fate) -> None:
        if fate.hopeless:
            raise MessageRefused(
                f"{fate.hopeless[0][0].subject} cannot be published, nor anything else: {fate.hopeless[0][1]}"
            )
        if fate.held:
            raise Unroutable("; ".join(sorted(set(fate.held.values()))))

    def _tell_slim(self, rows: Sequence[Row]) -> None:
        if rows:
            log.warning("%s events travel slim; the first is of %s: %s", len(rows), rows[0].subject, rows[0].slim)
            self._watcher.slimmed(len(rows))


def _halves(things: Sequence[Thing]) -> tuple[Sequence[Thing], Sequence[Thing]]:
    middle = len(things) // 2
    return things[:middle], things[middle:]
