"""How a worker comes to its broker, and back to it, and what it takes from there.

Celery waits 2 s, 4 s, 6 s and so on up to 30 s between attempts, and at each connection a second for neighbours to
answer. Events wait as long, so here it asks every second or two, and no neighbours: what they would tell, which tasks
are revoked, nobody here uses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final
from uuid import uuid4

from celery.utils.nodenames import default_nodename
from celery.worker.consumer import Consumer

from backend.app.dead_letters.letters import unreadable
from backend.app.health import watchdog
from backend.app.settings import settings
from backend.app.worker import consumer, starting, task_messages
from events.contract import shown
from events.errors import Malformed

log = logging.getLogger(__name__)
FIRST_SECONDS: Final = 0.5
STEP_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 2.0
ALONE: Final = {"without_mingle": True, "without_gossip": True}


class SwiftConsumer(Consumer):
    """Celery's connection to the broker, with shorter waits and a gate before what it takes."""

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """Without the 28 queues that Celery declares for tasks with a countdown beside quorum queues: none has one."""

        default_steps: ClassVar = [step for step in Consumer.Blueprint.default_steps if "DelayedDelivery" not in step]

    def __init__(self, on_task_request: Any, initial_prefetch_count: int = 2, **options: Any) -> None:
        options["worker_options"] = {**(options.get("worker_options") or {}), **ALONE}
        super().__init__(on_task_request, initial_prefetch_count=_runs(initial_prefetch_count), **options)

    @property
    def max_prefetch_count(self) -> int:
        """Of runs from the queue of maintenance: what Celery comes back to some time after a connection was lost."""
        return _runs(super().max_prefetch_count)

    def ensure_connected(self, conn: Any) -> Any:
        """Try for any time."""
        connect = conn.ensure_connection

        def go_on(callback: Callable[[], Any]) -> None:
            watchdog.move("worker")
            callback()

        conn.ensure_connection = lambda *arguments, callback, **options: connect(
            *arguments,
            callback=partial(go_on, callback),
            **options,
            interval_start=FIRST_SECONDS,
            interval_step=STEP_SECONDS,
            interval_max=LONGEST_SECONDS,
        )
        connected = super().ensure_connected(conn)
        watchdog.move("worker")
        return connected

    def create_task_handler(self, *arguments: Any, **options: Any) -> Any:
        """What Celery does with a message, behind the gate: no message ends the loop that serves all others."""
        take = super().create_task_handler(*arguments, **options)
        lost = (*self.connection_errors, *self.channel_errors)

        def on_task(message: Any) -> None:
            try:
                take(task_messages.checked(message, self.app.tasks))
            except Malformed as failure:
                self.bury(message, failure)
            except lost:
                raise
            except Exception as failure:
                log.exception("a message cannot be taken")
                self.bury(message, Malformed(f"it cannot be taken: {type(failure).__name__}: {shown(str(failure))}"))

        return on_task

    def on_decode_error(self, message: Any, failure: Exception) -> None:
        """Kombu or Celery could not decode it. What needs no acknowledgement is a question, and not kept."""
        if message.delivery_info.get("consumer_tag") in (message.channel.no_ack_consumers or ()):
            log.warning("a control message is dropped: %s", shown(str(failure)))
            return
        self.bury(message, Malformed(f"it cannot be decoded: {type(failure).__name__}: {shown(str(failure))}"))

    def bury(self, message: Any, failure: Malformed) -> None:
        """Let the pool write a dead letter, and acknowledge the message when it is there."""
        log.warning("a message is buried: %s", failure)
        body = message.body if isinstance(message.body, (bytes, str)) else bytes(message.body)
        letter = unreadable(failure, body, str(message.content_type or ""), message.headers)
        consumer.request(
            self,
            consumer.Collecting(letters=[letter]),
            lambda *_: message.ack_log_error(log, self.connection_errors),
            lambda _log, _errors, requeue=False: message.reject_log_error(log, self.connection_errors, requeue),
        )


def own_name(instance: Any = None, **kwargs: Any) -> None:
    """A receiver of `celeryd_init`: a worker that was given no name answers by one that nobody else has."""
    if instance is not None and instance.hostname == default_nodename(""):
        instance.hostname = default_nodename(f"celery-{uuid4().hex[:8]}@")


def _runs(children: int) -> int:
    return starting.runs_at_once(children, settings().batches_in_flight)
