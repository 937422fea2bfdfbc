"""The relay's channel, in confirm mode, on a connection of its own.

A broker that is short of memory or disk blocks its publishers: then nothing is sent, for any time, and the connection
is kept. After any doubt the channel is closed and a new one made.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from amqp.exceptions import ContentTooLarge, FrameError, FrameSyntaxError, PreconditionFailed

from events import contract, topology
from events.confirms import Confirms
from events.connection import LOST, connect
from events.errors import BrokerGone, Unconfirmed
from events.packing import Outgoing

log = logging.getLogger(__name__)
CONFIRM_SECONDS: Final = 10.0  # the longest wait for the broker's word on a batch
SEND_SECONDS: Final = 6  # for the broker to take a part of a message; the leader's session is silent meanwhile
REFUSED: Final = (PreconditionFailed, ContentTooLarge, FrameError, FrameSyntaxError)  # a message, not the connection


class Channel:
    """Sends messages and hears what becomes of each. Everything raises one of LOST when the connection is."""

    def __init__(self, url: str, while_waiting: Callable[[], None]) -> None:
        """`while_waiting` is called while the broker keeps us waiting. Raises BrokerGone."""
        self.connection = connect(url, "relay", write_timeout=SEND_SECONDS)
        self._while_waiting = while_waiting
        self._is_blocked = False
        try:
            self.confirms = self._open()
        except LOST as failure:
            self.close()
            raise BrokerGone(f"the broker closed the connection: {failure!r}") from failure
        self.connection.connection.on_blocked = self._on_blocked
        self.connection.connection.on_unblocked = self._on_unblocked

    def send(self, message: Outgoing, trace: str | None) -> None:
        """Send one, as soon as the broker takes any; raises one of REFUSED when it refused an earlier one."""
        self._await_unblocked()
        try:
            self.confirms.publish(
                message, message.body, topology.EVENTS.name, message.type, **_properties(message, trace)
            )
        except (struct.error, ValueError, TypeError) as failure:
            raise FrameSyntaxError(f"AMQP has no form for it: {failure}") from failure
        self._while_waiting()

    def await_confirms(self) -> None:
        """Until the broker has said of all what became of them; raises Unconfirmed, or one of REFUSED."""
        deadline = time.monotonic() + CONFIRM_SECONDS
        while under_way := self.confirms.under_way:
            if time.monotonic() > deadline:
                raise Unconfirmed(f"the broker left {under_way} messages unconfirmed for {CONFIRM_SECONDS} s")
            if self._is_blocked:
                self._await_unblocked()
                deadline = time.monotonic() + CONFIRM_SECONDS
            self._drain(1.0)
            self._while_waiting()

    def listen(self) -> None:
        """Send and check heartbeats, and take in what the broker says."""
        self.connection.heartbeat_check()
        self._drain(0)

    def close(self) -> None:
        """Drop the socket without asking a broker that may not answer."""
        with suppress(*LOST):
            self.connection.collect(socket_timeout=1)

    def _open(self) -> Confirms[Outgoing]:
        channel = self.connection.channel()
        topology.declare(channel)
        return Confirms(channel)

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


def _properties(message: Outgoing, trace: str | None) -> dict[str, Any]:
    return {
        "content_type": contract.BATCH,
        "timestamp": int(time.time()),  # for replays since an instant
        "application_headers": {
            "cloudEvents:type": message.type,
            "cloudEvents:count": len(message.rows),
            **({"traceparent": trace} if trace else {}),
        },
    }
