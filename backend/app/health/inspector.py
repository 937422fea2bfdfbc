"""Questions to the broker and to the workers behind it, each with deadlines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import amqp
import kombu
from amqp.exceptions import NotFound
from kombu import Connection
from kombu.exceptions import KombuError

from backend.app.errors import BrokerAway
from backend.app.health.worker_answers import HeldEvents, HoldReason, understood
from backend.app.settings import settings
from events import times, topology
from events.connection import LOST, connect
from events.errors import BrokerGone

QUEUES: Final = (topology.UPDATER.name, topology.DEAD_LETTERS.name, topology.PATCHES, topology.MAINTENANCE)
CONNECTED_WORKERS: Final = (
    "SELECT count(DISTINCT split_part(application_name, ' of ', 2)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND starts_with(application_name, 'citycache worker child')"
)
"""Workers whose children have connections to the database: also those that are suspended, and none that ended."""
REPLY_SECONDS: Final = 1.0  # a worker's main loop answers within milliseconds
CONFIRM_SECONDS: Final = 1.0  # for a message to nobody
CLOSE_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Waiting:
    """Event messages between the exchange and the caches."""

    ready: int  # in the queue
    held: int  # taken by workers, not yet applied
    oldest_held: str | None  # time of the oldest event that a worker holds; None: of one of them it is unknown
    workers: tuple[str, ...] = ()  # names of those that said what they hold
    silent: int = 0  # workers that did not say what they hold: suspended, or lost and not yet noticed by the broker
    consumers: int = 0  # workers that take from the queue
    exists: bool = True  # whether there is a queue
    is_blocked: bool = False  # whether the broker takes no messages, being short of memory or disk
    is_known: bool = True  # False: there may be more
    because: Sequence[HoldReason] = ()  # why workers hold events
    knows_canaries: bool | None = None  # whether all workers take canaries; those of an earlier release would bury them

    @property
    def messages(self) -> int:
        """All of them."""
        return self.ready + self.held


def depths(*queues: str, url: str | None = None) -> dict[str, int | None]:
    """Messages that wait in each queue (not those that a worker holds); None for a queue that does not exist."""
    if (url or settings().celery_broker_url).startswith("memory://"):
        return {}
    with _connected(url) as connection:
        found = {queue: declared(connection, queue) for queue in queues or QUEUES}
    return {queue: counts[0] if counts else None for queue, counts in found.items()}


def waiting(
    url: str | None = None, reply_seconds: float = REPLY_SECONDS, connected: Callable[[], Any] = lambda: None
) -> Waiting:
    """What waits for the updater. The queue is asked before its workers, so nothing on its way is missed.

    `connected` answers CONNECTED_WORKERS. It is asked when some consumers answer and some do not: where a node of a
    cluster is down, the broker goes on counting the consumers whose connections ended with it.
    """
    if (url or settings().celery_broker_url).startswith("memory://"):
        return Waiting(0, 0, None, knows_canaries=True)
    with _connected(url) as connection:
        found = declared(connection, topology.UPDATER.name)
        if not found:
            return Waiting(0, 0, None, exists=False)
        ready, consumers = found
        answers, is_blocked = _held(connection, consumers, reply_seconds)
    held = [answer for _, answer in answers]
    oldest = times.earliest(worker.oldest for worker in held if worker.messages)
    messages = sum(worker.messages for worker in held)
    silent = max(0, consumers - len(held))
    if held and silent and (workers := connected()) is not None:
        silent = min(silent, max(0, workers - len(held)))
    # A queue whose leader is being elected, as after a restart of the broker, says that it has neither.
    knows_canaries = all(worker.canaries for worker in held) if held and not silent else None
    return Waiting(
        ready, messages, oldest, tuple(sorted(name for name, _ in answers)), silent, consumers, is_blocked=is_blocked,
        is_known=not silent and not is_blocked and (consumers > 0 or ready > 0),
        because=[reason for worker in held for reason in worker.because],
        knows_canaries=knows_canaries,
    )  # fmt: skip


class _Enough(Exception):
    """All workers that consume events have answered; no need to wait for others."""


def _held(connection: Connection, consumers: int, seconds: float) -> tuple[list[tuple[str, HeldEvents]], bool]:
    """What each worker holds, and whether the broker takes no messages, which is why nobody can be asked then."""
    control = _control()
    answers: list[tuple[str, HeldEvents]] = []  # with the worker's name, which several may have

    def take(reply: dict[str, Any]) -> None:
        answers.extend(understood([reply], HeldEvents).items())
        if len(answers) >= consumers:
            raise _Enough

    if _blocks(control.mailbox.reply_exchange, connection):
        return [], True
    with suppress(_Enough):
        if consumers:
            control.broadcast("held_events", reply=True, callback=take, timeout=seconds, connection=connection)
    return answers, False


@cache
def _control() -> Any:
    """Celery's remote control, which asks on the connection that it is given and on no other."""
    from celery import Celery

    app = Celery(set_as_current=False, control="backend.app.worker.control:FreshControl")
    app.conf.control_queue_exclusive = True
    app.control.mailbox.producer_pool = None  # type: ignore[attr-defined]
    return app.control


def _blocks(exchange: kombu.Exchange, connection: Connection) -> bool:
    """Whether the broker is short of memory or disk. It says so only to who publishes: here, a message to nobody."""
    reasons: list[str] = []

    def on_blocked(reason: str) -> None:
        reasons.append(reason)
        raise _Enough

    connection.connection.on_blocked = on_blocked
    channel: Any = connection.channel()
    exchange.bind(channel).declare()
    channel.confirm_select()
    with suppress(_Enough, TimeoutError):
        channel.basic_publish_confirm(amqp.Message(b""), exchange.name, "nobody", confirm_timeout=CONFIRM_SECONDS)
    return bool(reasons)


@contextmanager
def _connected(url: str | None) -> Iterator[Connection]:
    """A connection for a few questions. Raises BrokerAway, also for what is lost while it is open."""
    try:
        connection = connect(url or settings().celery_broker_url, "inspector", read_timeout=2, write_timeout=2)
    except BrokerGone as failure:
        raise BrokerAway(str(failure)) from failure
    try:
        yield connection
    except (*LOST, KombuError) as failure:
        raise BrokerAway(f"the broker is away: {failure!r}") from failure
    finally:
        connection.collect(socket_timeout=CLOSE_SECONDS)  # a broker that blocks does not answer a farewell


def declared(connection: Any, queue: str) -> tuple[int, int] | None:
    """(ready messages, consumers) of a queue; None for one that does not exist. Raises the driver's errors, and
    BrokerAway for one that the broker does not reach yet."""
    channel = connection.channel()
    try:
        found = channel.queue_declare(queue, passive=True)
        return int(found.message_count), int(found.consumer_count)
    except NotFound as refusal:
        if topology.is_missing(refusal):
            return None
        raise BrokerAway(f"the broker does not reach a queue: {refusal.reply_text}") from refusal
    finally:
        if channel.is_open:
            channel.close()
