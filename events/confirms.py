"""What a broker says of each message: whether it has it, refuses it, or knows no queue for it."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar
from uuid import uuid4

import amqp

PERSISTENT: Final = 2
Sent = TypeVar("Sent")  # hashable; stands for one message


class Confirms(Generic[Sent]):
    """The messages of one channel in confirm mode, many under way at once, each one accounted for.

    Whoever drains the connection hears what became of them: RabbitMQ's "Publisher Confirms" guide.
    """

    def __init__(self, channel: Any) -> None:
        self.taken: list[Sent] = []  # the broker has them
        self.held: dict[Sent, str] = {}  # it has no queue or no room for them, and why
        self._channel = channel
        self._waiting: dict[int, Sent] = {}  # by delivery tag
        self._names: dict[str, Sent] = {}  # by message id, those under way
        self._last_tag = 0
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    @property
    def under_way(self) -> int:
        """Messages of which nothing was said yet."""
        return len(self._waiting)

    def publish(self, sent: Sent, body: bytes, exchange: str, routing_key: str, **properties: Any) -> None:
        """Send one, persistent, which some queue must take."""
        name = str(uuid4())
        self._last_tag += 1
        self._waiting[self._last_tag] = self._names[name] = sent
        self._channel.basic_publish(
            amqp.Message(body, delivery_mode=PERSISTENT, message_id=name, **properties),
            exchange=exchange,
            routing_key=routing_key,
            mandatory=True,
        )

    def forget(self) -> list[Sent]:
        """Begin a new account; those whose fate was open, in their order."""
        under_way = [self._waiting[tag] for tag in sorted(self._waiting)]
        self.taken, self.held = [], {}
        self._waiting.clear()
        self._names.clear()
        return under_way

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self.taken += [sent for sent in self._answered(tag, multiple) if sent not in self.held]

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self.held |= dict.fromkeys(self._answered(tag, multiple), "the broker refused a message")

    def _answered(self, tag: int, multiple: bool) -> list[Sent]:
        tags = [waiting for waiting in self._waiting if waiting <= tag] if multiple else [tag]
        return [self._waiting.pop(answered) for answered in tags if answered in self._waiting]

    def _on_return(self, failure: Exception, exchange: str, routing_key: str, message: Any) -> None:
        """Heard before the confirm of the same message."""
        if (name := message.properties["message_id"]) in self._names:
            self.held[self._names[name]] = f"no queue is bound for {routing_key!r}"
