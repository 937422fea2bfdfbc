"""Remote control of workers: it answers questions and obeys nobody.

Whoever may use the broker reaches every worker's control queue, so there is nothing behind it that changes a worker or
takes it long. A question has no arguments, its answer goes to the mailbox of answers and nowhere else, and a message
that is none is told in the log and forgotten.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Final

import msgspec
from celery.worker import state as worker_state
from celery.worker.control import Panel, inspect_command
from kombu.pidbox import Node

from events import contract, foreign
from events.contract import shown
from events.errors import Malformed

log = logging.getLogger(__name__)
MOST_BYTES: Final = 65_536  # of a question
MOST_REPLY_BYTES: Final = 2**20
MOST_WAITING: Final = 1_000  # questions in a worker's queue; more push out the oldest
REFUSED: Final = "workers answer questions only"
OWN: Final = ("held_events", "held_runs")
QUESTIONS: Final = frozenset(
    ("ping", "stats", "clock", "active", "reserved", "scheduled", "registered", "active_queues", *OWN)
)
ARGUMENTS: Final[dict[str, dict[str, Any]]] = {"active": {"safe": True}}  # calls by their short form: batches are large

Name = Annotated[str, msgspec.Meta(max_length=255)]


class ReplyTo(msgspec.Struct, frozen=True):
    """Where the answer is waited for."""

    exchange: Name
    routing_key: Annotated[str, msgspec.Meta(max_length=60)]


class ControlMessage(msgspec.Struct, frozen=True):
    """A control message as Celery and kombu write it."""

    method: Name
    destination: list[Name] | None = None
    pattern: str | None = None
    ticket: Name | None = None
    reply_to: ReplyTo | None = None


_question = msgspec.json.Decoder(ControlMessage)
_reply = msgspec.json.Decoder(dict[Name, Any])


def close_others() -> None:
    """Forget all of Celery's commands but the questions."""
    for method in Panel.data.keys() - QUESTIONS:
        del Panel.data[method]


@inspect_command()
def held_runs(state: Any) -> dict[str, Any]:
    """Asked by the lifeline: runs whose messages this worker has, begun or not."""
    return {"runs": list(worker_state.requests)}


class QuestionNode(Node):
    """A worker's end of the control queue."""

    mailbox: Any
    handlers: dict[str, Any]

    def listen(self, channel: Any = None, callback: Any = None) -> Any:
        """Consume; bodies are decoded here, when their size is known."""
        consumer = self.Consumer(channel=channel, on_message=self.hear)
        consumer.consume()
        return consumer

    def hear(self, message: Any) -> None:
        """Answer one message, whatever it is."""
        try:
            question = read(message)
        except Malformed as failure:
            log.warning("a control message is dropped: %s", failure)
            return
        if question.destination and self.hostname not in question.destination:
            return
        answer = self._answer(question.method)
        if question.reply_to is not None and question.reply_to.exchange == self.mailbox.reply_exchange.name:
            to = question.reply_to
            self.reply({self.hostname: answer}, to.exchange, to.routing_key, question.ticket)

    def _answer(self, method: str) -> Any:
        if method not in QUESTIONS or method not in self.handlers:
            log.warning("the control command %s is refused: %s", shown(method), REFUSED)
            return {"error": REFUSED}
        try:
            return self.handlers[method](self.state, **ARGUMENTS.get(method, {}))
        except Exception as failure:
            log.exception("the question %s cannot be answered", method)
            return {"error": type(failure).__name__}


def read(message: Any) -> ControlMessage:
    """The question of a control message; raises Malformed."""
    question: ControlMessage = _decoded(message, _question, MOST_BYTES)
    if question.pattern:
        raise Malformed("workers are asked by name, not by pattern")
    return question


def reply_of(message: Any, ticket: str) -> dict[str, Any]:
    """Worker's name → what it answered to the question with this ticket, nothing to any other; raises Malformed."""
    replied: dict[str, Any] = _decoded(message, _reply, MOST_REPLY_BYTES)
    return replied if message.headers.get("ticket") == ticket else {}


def _decoded(message: Any, decoder: msgspec.json.Decoder[Any], most: int) -> Any:
    if reason := foreign.unreadable(message.headers):
        raise Malformed(reason)
    if message.headers.get("compression"):
        raise Malformed("compressed bodies are not unpacked")
    if len(message.body) > most:
        raise Malformed(f"it has {len(message.body):,} bytes, more than {most:,}")
    try:
        return decoder.decode(message.body)
    except contract.UNREADABLE as failure:
        raise Malformed(f"it cannot be read: {failure}") from failure
