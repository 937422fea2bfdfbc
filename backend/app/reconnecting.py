"""How a worker comes to its broker, and back to it.

Celery waits 2 s, 4 s, 6 s and so on up to 30 s between attempts, and at each connection a second for neighbours to
answer. Events wait as long, so here it asks every second or two, and no neighbours: what they would tell, which tasks
are revoked, nobody here uses.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, ClassVar, Final
from uuid import uuid4

from celery.app.control import Control
from celery.utils.nodenames import default_nodename
from celery.worker.consumer import Consumer
from kombu import Queue
from kombu.pidbox import Mailbox

FIRST_SECONDS: Final = 0.5
STEP_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 2.0
ALONE: Final = {"without_mingle": True, "without_gossip": True}


class SwiftConsumer(Consumer):
    """Celery's connection to the broker, with shorter waits."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """Without the 28 queues that Celery declares for tasks with a countdown beside quorum queues: none has one."""

        default_steps: ClassVar = [step for step in Consumer.Blueprint.default_steps if "DelayedDelivery" not in step]

    def __init__(self, on_task_request: Any, **options: Any) -> None:
        options["worker_options"] = {**(options.get("worker_options") or {}), **ALONE}
        super().__init__(on_task_request, **options)

    def ensure_connected(self, conn: Any) -> Any:
        """Try for any time."""
        conn.ensure_connection = partial(
            conn.ensure_connection,
            interval_start=FIRST_SECONDS,
            interval_step=STEP_SECONDS,
            interval_max=LONGEST_SECONDS,
        )
        return super().ensure_connected(conn)


class FreshMailbox(Mailbox):
    """Questions to workers and their answers, in queues whose names nobody had before.

    They are exclusive to a connection. The broker may not have noticed that it is gone; and where its node is down,
    RabbitMQ 4.2 keeps them until that node is back. A queue of the same name would be refused for as long.
    """

    @cached_property
    def oid(self) -> str:
        """Names the queue of one question's answers."""
        return str(uuid4())

    def get_queue(self, hostname: str) -> Queue:
        """A worker's, for one connection."""
        return super().get_queue(f"{hostname}.{uuid4().hex[:8]}")


class FreshControl(Control):
    """Celery's remote control."""

    Mailbox = FreshMailbox


def own_name(instance: Any = None, **kwargs: Any) -> None:
    """A receiver of `celeryd_init`: a worker that was given no name answers by one that nobody else has."""
    if instance is not None and instance.hostname == default_nodename(""):
        instance.hostname = default_nodename(f"celery-{uuid4().hex[:8]}@")
