"""The worker's step from deliveries to batches of distinct keys.

Deliveries gather until a batch slot is free and the linger is over, or until the batch is full; so batches grow with
the backlog. Messages of many events, as a large statement makes them, gather apart, and lone events go past them.

A batch becomes a request of the Celery task `apply_catalog_events` right here, without a second trip through the
broker: its events stay unacknowledged until their patch is committed, so the prefetch bounds what a worker holds, and
a lost worker's events return by themselves.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

from celery import bootsteps
from celery.worker.control import inspect_command
from kombu import Consumer, serialization
from kombu.common import ignore_errors
from kombu.message import Message
from msgspec import structs

from backend.app.caches.keys import lane_halves
from backend.app.dead_letters.letters import DeadLetter, beginning, unreadable
from backend.app.settings import settings
from backend.app.tasks.roster import APPLY_EVENTS
from backend.app.telemetry import metrics, tracing
from backend.app.worker import holding, starting
from backend.app.worker.attempts import MOST_DEATHS, Suspect
from backend.app.worker.starting import InFlight
from events import contract, foreign, times, topology
from events.contract import Hint
from events.errors import Malformed

log = logging.getLogger(__name__)
SUSPECT_DELIVERIES: Final = 3  # a message that came back this often is applied alone: it may be what kills workers
BULK: Final = 100  # events of one message, from which on others may go past it
MOST_LETTER_BYTES: Final = 1024 * 1024  # of the bodies in one batch's dead letters
MOST_KEPT_BYTES: Final = 8 * 1024 * 1024  # of all that this worker holds; of further bodies only the beginning
BEGINNING: Final = 1024  # characters
MOST_INTERRUPTED: Final = 100  # attempts that ended with their connection, remembered until one says so in the ledger
APPLICABLE: Final = ("delivery_limit", "expired", "maxlen")  # the broker's reasons that say nothing of the message


@dataclass
class Collecting:
    """Deliveries on their way into one batch."""

    tags: list[int] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    since: float = field(default_factory=time.time)
    oldest: str | None = None  # time of the oldest event, RFC 3339; None: not known of all of them
    parent: str | None = None  # trace context of the first recorded message
    suspect: Suspect | None = None  # its only message, one that came back often
    task_ids: list[str] = field(default_factory=list)  # of its requests

    letter_bytes: int = 0  # of the bodies in its dead letters, about

    def bury(self, letter: DeadLetter) -> None:
        """One more message, or part of one, that cannot be read."""
        self.letters.append(letter)
        self.letter_bytes += len(letter.payload or "")

    @property
    def is_full(self) -> bool:
        """Whether it takes no more: it has as many keys as are patched in two halves, or as many bytes as one bears."""
        return len(self.hints) >= 2 * settings().batch_keys or self.letter_bytes >= MOST_LETTER_BYTES

    def take_times(self, texts: list[str]) -> None:
        """The times of one more message's events."""
        is_first = len(self.tags) == 1
        self.oldest = times.earliest(texts if is_first else [self.oldest, *texts])


@dataclass
class Gathering:
    """Deliveries that wait for a slot: full batches, and the one that takes more."""

    open: Collecting = field(default_factory=Collecting)
    closed: deque[Collecting] = field(default_factory=deque)

    @property
    def waits(self) -> bool:
        """Whether anything does."""
        return bool(self.closed or self.open.tags)

    def close(self) -> None:
        """What comes from now on goes into another batch."""
        if self.open.tags:
            self.closed.append(self.open)
            self.open = Collecting()

    def take(self) -> Collecting:
        """The oldest batch, full or not."""
        if not self.closed:
            self.close()
        return self.closed.popleft()


@dataclass(eq=False, kw_only=True)
class Dispatched(InFlight):
    """A batch with the pool."""

    collected: Collecting
    parts_left: int  # requests that have not ended
    refused: bool = False  # by one of its requests
    requeue: bool = False


class EventConsumer(bootsteps.StartStopStep):
    """Consumes `city-cache.events` and what the broker dead-lettered, on a channel of its own."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._worker: Any = None
        self._channel: Any = None
        self._timer: Any = None
        self._due = 0.0  # when it fires, monotonic
        self._consumers: list[Any] = []
        self._lone, self._bulk = Gathering(), Gathering()
        self._was_bulk = False  # the batch that started last
        self._in_flight: list[Dispatched] = []  # with the pool
        self._unsettled: dict[int, None] = {}  # tags of all deliveries on this channel, oldest first
        self._batches = self._events = 0
        self._interrupted: deque[str] = deque(maxlen=MOST_INTERRUPTED)

    def include_if(self, worker: Any) -> bool:
        """Only a worker that serves the patches queue consumes events."""
        return topology.PATCHES in worker.app.amqp.queues.consume_from

    def start(self, worker: Any) -> None:
        """Begin to consume; called anew after every reconnection, with all deliveries of before returned."""
        foreign.tolerate()
        self._reset()
        _running[:] = [self]
        self._worker = worker
        self._channel = worker.connection.channel()
        topology.declare(self._channel)
        self._consumers = [
            self._consume(topology.UPDATER, self._on_event),
            self._consume(topology.DEAD_LETTERS, self._on_dead_letter),
        ]

    def stop(self, worker: Any) -> None:
        """Take no more deliveries; batches under way may still be acknowledged."""
        for consumer in self._consumers:
            ignore_errors(worker.connection, consumer.cancel)
        self._consumers = []
        self._lone, self._bulk = Gathering(), Gathering()

    def shutdown(self, worker: Any) -> None:
        """Close the channel; what was not acknowledged returns to the queue."""
        if self._channel is not None:
            ignore_errors(worker.connection, self._channel.close)
        self._channel = None

    def held(self) -> dict[str, Any]:
        """What this worker has taken from the queue and not yet acknowledged."""
        batches = self._held()
        messages = sum(len(batch.tags) for batch in batches)
        oldest = times.earliest(batch.oldest for batch in batches if batch.tags)
        # 0.1.0 reads `newest` as well: without one, only an empty queue shows it that all has been applied
        return {"messages": messages, "oldest": oldest, "newest": None, "because": holding.reasons()}

    def _held(self) -> list[Collecting]:
        lines = (self._lone, self._bulk)
        waiting = [batch for line in lines for batch in (*line.closed, line.open)]
        return [*(batch.collected for batch in self._in_flight), *waiting]

    def info(self, worker: Any) -> dict[str, Any]:  # type: ignore[override]
        """Shown by `celery inspect stats`."""
        return {"events": {"batches": self._batches, "events": self._events, "in_flight": len(self._in_flight)}}

    def _reset(self) -> None:
        self._worker = self._channel = self._timer = None
        self._consumers = []
        self._interrupted += (
            task_id for batch in self._in_flight if batch.collected.suspect for task_id in batch.collected.task_ids
        )
        self._lone, self._bulk = Gathering(), Gathering()
        self._in_flight = []
        self._unsettled = {}
        metrics.WORKER_HELD.set(0)

    def _consume(self, queue: Any, on_message: Callable[[Any], None]) -> Any:
        consumer = Consumer(
            self._channel, [queue], on_message=on_message, no_ack=False, prefetch_count=settings().event_prefetch,
            auto_declare=False, tag_prefix=f"{queue.name}.", on_decode_error=self._on_damaged,
        )  # fmt: skip
        consumer.consume()
        return consumer

    def _on_event(self, message: Any) -> None:
        hints, letters = read(message)
        is_suspect = _deliveries(message.headers or {}) >= SUSPECT_DELIVERIES
        batch = self._gather(message, hints, letters, _suspect(message) if is_suspect else None)
        if tracing.enabled():
            _trace(message, batch)

    def _on_dead_letter(self, message: Any) -> None:
        """What the broker gave up on without a look at it can still be applied."""
        queue, reason = _death(message.headers or {})
        if reason in APPLICABLE:
            self._gather(message, *read(message), _suspect(message))
        else:
            self._gather(message, [], [_given_up(message, f"the broker gave up on it in {queue}: {reason}")])

    def _on_damaged(self, message: Any, failure: Exception) -> None:
        """Kombu was told to unpack it."""
        self._gather(message, *read(message))

    def _gather(
        self, message: Any, hints: list[Hint], letters: list[DeadLetter], suspect: Suspect | None = None
    ) -> Collecting:
        line = self._bulk if len(hints) >= BULK else self._lone
        if suspect:
            line.close()
        batch = line.open
        batch.tags.append(message.delivery_tag)
        self._unsettled[message.delivery_tag] = None
        batch.hints += hints
        for letter in letters:
            batch.bury(self._affordable(letter))
        batch.suspect = suspect
        batch.take_times([hint.time for hint in hints])
        if batch.is_full or suspect:
            line.close()
        self._dispatch_in(0 if batch.is_full else settings().batch_linger_ms / 1000)
        return batch

    def _affordable(self, letter: DeadLetter) -> DeadLetter:
        """The letter, without most of its body where this worker holds too many bytes of others already."""
        if len(letter.payload or "") <= BEGINNING:
            return letter
        kept = sum(batch.letter_bytes for batch in self._held())
        return letter if kept < MOST_KEPT_BYTES else beginning(letter, BEGINNING)

    def _dispatch_in(self, seconds: float) -> None:
        """Only the hub's timers dispatch: deliveries may come while the worker still starts and has no pool."""
        due = time.monotonic() + seconds
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._timer, self._due = self._worker.timer.call_after(seconds, self._dispatch), due

    def _dispatch(self) -> None:
        """Start batches while slots are free; what is left waits for one and grows."""
        self._timer = None
        while (line := self._next()).waits:
            if (seconds := self._pause()) is None:
                return
            if seconds > 0:
                self._dispatch_in(seconds)
                return
            self._was_bulk = line is self._bulk
            self._start(line.take())

    def _next(self) -> Gathering:
        if self._lone.waits and self._bulk.waits:
            return self._bulk if starting.is_bulk_next(self._in_flight, self._was_bulk) else self._lone
        return self._bulk if self._bulk.waits else self._lone

    def _pause(self) -> float | None:
        chosen = settings()
        return starting.pause(self._in_flight, chosen.batches_in_flight, chosen.patch_lanes, time.monotonic())

    def _start(self, collected: Collecting) -> None:
        channel, parts = self._channel, _parts(collected)
        keys, now = len(collected.hints), time.monotonic()
        batch = Dispatched(keys, now, self._was_bulk, collected=collected, parts_left=len(parts))
        self._in_flight.append(batch)
        self._batches += 1
        self._events += batch.keys
        metrics.WORKER_BATCHES.inc()
        metrics.WORKER_EVENTS.inc(batch.keys)
        self._show_held()
        for part in parts:
            request(
                self._worker,
                self._with_interrupted(part),
                lambda *_: self._on_end(channel, batch),
                lambda _log, _errors, requeue=False: self._on_reject(channel, batch, requeue),
            )

    def _with_interrupted(self, part: Collecting) -> Collecting:
        if part.suspect is None or not self._interrupted:
            return part
        suspect = structs.replace(part.suspect, interrupted=list(self._interrupted))
        self._interrupted.clear()
        return replace(part, suspect=suspect)

    def _on_reject(self, channel: Any, batch: Dispatched, requeue: bool) -> None:
        batch.refused, batch.requeue = True, requeue or batch.requeue
        self._on_end(channel, batch)

    def _on_end(self, channel: Any, batch: Dispatched) -> None:
        """A message may have keys in both halves: it is acknowledged when both are done, or comes back for both."""
        batch.parts_left -= 1
        if batch.parts_left or channel is not self._channel:  # with a lost connection the broker delivers again
            return
        self._in_flight.remove(batch)
        self._settle(batch)
        self._show_held()
        self._dispatch_in(0)

    def _settle(self, batch: Dispatched) -> None:
        """Acknowledge or return its messages; all at once only where none that came before the last of them is left,
        not even one that waited when this worker was told to stop."""
        tags = batch.collected.tags
        for tag in tags:
            del self._unsettled[tag]
        if batch.refused:
            for tag in tags:
                self._channel.basic_reject(tag, requeue=batch.requeue)
        elif tags[-1] < next(iter(self._unsettled), tags[-1] + 1):
            self._channel.basic_ack(tags[-1], multiple=True)
        else:
            for tag in tags:
                self._channel.basic_ack(tag)

    def _show_held(self) -> None:
        metrics.WORKER_HELD.set(sum(len(batch.tags) for batch in self._held()))


_running: list[EventConsumer] = []  # the one of this worker
KNOWN: Final = {"canaries": True}  # what a worker of this release takes, and an earlier one would bury


@inspect_command()
def held_events(state: Any) -> dict[str, Any]:
    """Asked by whoever wants to know how far the caches lag: passive declarations don't count what workers hold."""
    return _running[0].held() | KNOWN if _running else {}  # this worker does not consume events


def _trace(message: Any, batch: Collecting) -> None:
    """A batch goes on in the trace of its first message that is recorded."""
    if batch.parent is None or not tracing.is_sampled(batch.parent):
        header = (message.headers or {}).get("traceparent")
        traced = (hint.traceparent for hint in batch.hints if hint.traceparent)
        batch.parent = header if isinstance(header, str) else next(traced, batch.parent)


def read(message: Any) -> tuple[list[Hint], list[DeadLetter]]:
    """The hints of a message, and what cannot be read of it."""
    body = message.body if isinstance(message.body, (bytes, str)) else bytes(message.body)
    return read_parts(body, message.content_type or "", message.headers or {})


def read_parts(body: bytes | str, content_type: str, headers: dict[str, Any]) -> tuple[list[Hint], list[DeadLetter]]:
    """The same from a message's parts. What is no event at all becomes one letter, however much there is of it."""
    hints: list[Hint] = []
    letters: list[DeadLetter] = []
    malformed: list[Malformed] = []
    refused = 0
    for event in contract.decode(body, content_type, headers):
        if isinstance(event, Malformed):
            malformed.append(event)
            continue
        try:
            hints.append(contract.hint(event))
        except Malformed as failure:
            refused += 1
            if refused <= contract.MOST_EVENTS:
                letters.append(unreadable(failure, contract.encode_one(event), contract.STRUCTURED, {}))
    if refused > contract.MOST_EVENTS:
        letters = [unreadable(_summary(letters[0].reason, refused), body, content_type, headers)]
    if malformed:
        rest = "; what follows is not looked at" if len(malformed) > contract.MOST_EVENTS else ""
        letters.append(unreadable(_summary(str(malformed[0]), len(malformed), rest), body, content_type, headers))
    return hints, letters


def _summary(reason: str, failures: int, rest: str = "") -> Malformed:
    return Malformed(reason if failures == 1 else f"{reason}, and {failures - 1:,} more parts of it{rest}")


def _parts(collected: Collecting) -> list[Collecting]:
    """A large batch as two that share no lane, so that neither waits for the other."""
    if len(collected.hints) <= settings().batch_keys:
        return [collected]
    halves = lane_halves(collected.hints, lambda hint: hint.id or 0, settings().patch_lanes)
    if not all(halves):
        return [collected]
    return [replace(collected, hints=halves[0]), replace(collected, hints=halves[1], letters=[])]


def _suspect(message: Any) -> Suspect:
    """Its id names a message through all deliveries, or its bytes where its publisher gave it none."""
    named = (getattr(message, "properties", None) or {}).get("message_id")
    name = named.encode(errors="replace") if isinstance(named, str) and named else _bytes(message)
    letter = _given_up(message, f"the process that applied it died {MOST_DEATHS} times")
    return Suspect(hashlib.sha256(name).hexdigest(), asdict(letter))


def request(worker: Any, collected: Collecting, on_ack: Callable[..., None], on_reject: Callable[..., None]) -> None:
    """Hand a batch to the pool as a request of the Celery task, as if its message had come from a queue."""
    kwargs = {
        "hints": [[hint.noun, hint.id, hint.event_id, hint.time, hint.traceparent] for hint in collected.hints],
        "unreadable": [asdict(letter) for letter in collected.letters],
        "received_at": collected.since,
        "parent": collected.parent,
    }
    if collected.suspect:
        kwargs["suspect"] = structs.asdict(collected.suspect)
    task_id = str(uuid4())
    collected.task_ids.append(task_id)
    task = worker.app.amqp.as_task_v2(
        task_id, APPLY_EVENTS.name, (), kwargs, argsrepr="", kwargsrepr=f"{len(collected.hints)} events"
    )
    content_type, encoding, body = serialization.dumps(task.body, "json")
    message = Message(
        body=body, content_type=content_type, content_encoding=encoding, headers=task.headers,
        properties=task.properties, delivery_info={"routing_key": topology.UPDATER.name}, accept={content_type},
    )  # fmt: skip
    worker.strategies[APPLY_EVENTS.name](message, None, on_ack, on_reject, [])


def _deliveries(headers: dict[str, Any]) -> int:
    """How often the message has come back; its publisher may have set this header to anything."""
    count = headers.get("x-delivery-count")
    return count if isinstance(count, int) else 0


def _bytes(message: Any) -> bytes:
    return message.body.encode(errors="replace") if isinstance(message.body, str) else bytes(message.body)


def _letter(message: Any, reason: Malformed) -> DeadLetter:
    return unreadable(reason, _bytes(message), message.content_type or "", message.headers or {})


def _given_up(message: Any, reason: str) -> DeadLetter:
    return DeadLetter(**(asdict(_letter(message, Malformed(reason))) | {"kind": "undeliverable"}))


def _death(headers: dict[str, Any]) -> tuple[str, str]:
    """The queue in which the broker gave up on a message, and its reason."""
    deaths = headers.get("x-death") or [{}]
    first = deaths[0] if isinstance(deaths, list) and isinstance(deaths[0], dict) else {}
    queue, reason = (str(first.get(name, "unknown"))[: contract.SHOWN] for name in ("queue", "reason"))
    return queue, reason
