"""Questions to the broker, each on a connection of its own with deadlines."""

from __future__ import annotations

from typing import Any, Final

from amqp.exceptions import NotFound

from backend.app.errors import BrokerAway
from backend.app.settings import settings
from events import topology
from events.errors import BrokerGone
from events.publisher import LOST, connect

QUEUES: Final = (topology.UPDATER.name, topology.DEAD_LETTERS.name, topology.PATCHES, topology.MAINTENANCE)


def depths(*queues: str) -> dict[str, int | None]:
    """Messages that wait in each queue (not those that a worker holds); None for a queue that does not exist."""
    if settings().in_process:
        return {}
    try:
        connection = connect(settings().celery_broker_url, "depths", read_timeout=2, write_timeout=2)
    except BrokerGone as failure:
        raise BrokerAway(str(failure)) from failure
    try:
        return {queue: _depth(connection, queue) for queue in queues or QUEUES}
    except LOST as failure:
        raise BrokerAway(f"the broker is away: {failure!r}") from failure
    finally:
        connection.release()


def _depth(connection: Any, queue: str) -> int | None:
    channel = connection.channel()
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except NotFound:
        return None
    finally:
        if channel.is_open:
            channel.close()
