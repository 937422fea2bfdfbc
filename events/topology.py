"""Every name on the broker, and `declare`, which makes them; safe to run by anyone at any time.

Arguments of a queue are frozen at its declaration, so they hold only what can never change (its type, the log's
segment size). Limits, dead-letter exchange and retention are policies: `POLICIES`, set by whoever runs the broker.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from amqp.exceptions import AMQPError, NotFound
from kombu import Exchange, Queue

log = logging.getLogger(__name__)

EVENTS: Final = Exchange("catalog.events", "topic", durable=True)
DEAD_LETTER_EXCHANGE: Final = Exchange("city-cache.dlx", "fanout", durable=True)

LOG_NAME: Final = "catalog.events.log"
PATCHES: Final = "city-cache.patches"  # Celery: parts of event batches that failed as a whole
MAINTENANCE: Final = "city-cache.maintenance"  # Celery: rebuilds, wide patches, replays

LOG: Final = Queue(
    LOG_NAME,
    EVENTS,
    routing_key="catalog.#",
    durable=True,
    queue_arguments={"x-queue-type": "stream", "x-stream-max-segment-size-bytes": 50_000_000},
)
UPDATER: Final = Queue(
    "city-cache.events",
    EVENTS,
    routing_key="catalog.product.*",
    durable=True,
    queue_arguments={"x-queue-type": "quorum"},
)
UPDATER_KEYS: Final = ("catalog.product.*", "catalog.company.*", "catalog.city.*", "catalog.watched.*")
CANARY_KEY: Final = "citycache.canary.*"  # outside of what the log and other consumers are bound to
DEAD_LETTERS: Final = Queue(
    "city-cache.dead-letters", DEAD_LETTER_EXCHANGE, durable=True, queue_arguments={"x-queue-type": "quorum"}
)

UNLIMITED: Final = 1_000_000  # deliveries; RabbitMQ 4 has a limit of 20 where none is set
POLICIES: Final[dict[str, dict[str, Any]]] = {
    "city-cache-events": {  # an outage of hours returns them again and again; what kills workers they bury themselves
        "pattern": r"^city-cache\.events$",
        "apply-to": "queues",
        "definition": {"delivery-limit": UNLIMITED, "dead-letter-exchange": DEAD_LETTER_EXCHANGE.name},
    },
    "city-cache-tasks": {  # a run that its worker cannot end goes on elsewhere, however often
        "pattern": r"^city-cache\.(patches|maintenance|dead-letters)$",
        "apply-to": "queues",
        "definition": {"delivery-limit": UNLIMITED},
    },
    "catalog-events-log": {
        "pattern": r"^catalog\.events\.log$",
        "apply-to": "queues",
        "definition": {"max-age": "7D", "max-length-bytes": 5_000_000_000},
    },
}


# What a broker says that takes no queue of our type, and not that there is one with other arguments: access refused,
# precondition failed, not implemented, and of a feature that is switched off an internal error.
NOT_TAKEN: Final = (403, 406, 540)
NOT_SWITCHED_ON: Final = "feature flag"
OTHER_ARGUMENTS: Final = "inequivalent arg"

# In what it says of a queue that is there, by the same code by which it says that there is none.
NOT_REACHED: Final = ("inaccessible", "crashed", "stopped", "stopping", "failed to perform operation")


def is_missing(refusal: AMQPError) -> bool:
    """Whether a broker that was asked for a queue said that there is none; not that it cannot reach it yet."""
    said = str(refusal.reply_text)
    return isinstance(refusal, NotFound) and not any(words in said for words in NOT_REACHED)


def declare(channel: Any) -> None:
    """Declare exchanges, queues and bindings but the log; raises the channel's error if one exists otherwise."""
    for exchange in (EVENTS, DEAD_LETTER_EXCHANGE):
        exchange(channel).declare()
    for queue in (UPDATER, DEAD_LETTERS):
        _declare_quorum(queue, channel)
    for key in (*UPDATER_KEYS, CANARY_KEY):
        UPDATER(channel).bind_to(EVENTS, key)


def declare_log(connection: Any) -> str | None:
    """Declare the stream; None, or the broker's words if it takes none, which may cost the connection.

    Raises the channel's error if one exists otherwise.
    """
    try:
        channel = connection.channel()
        LOG(channel).declare()
        channel.close()
    except AMQPError as refusal:
        if not _is_not_taken(refusal):
            raise
        return str(refusal.reply_text)
    return None


def _declare_quorum(queue: Queue, channel: Any) -> None:
    try:
        queue(channel).declare()
    except AMQPError as refusal:
        if _is_not_taken(refusal):
            log.error("the broker takes no quorum queue %s, which is needed: %s", queue.name, refusal.reply_text)
        raise


def _is_not_taken(refusal: AMQPError) -> bool:
    said = str(refusal.reply_text)
    return NOT_SWITCHED_ON in said or (refusal.reply_code in NOT_TAKEN and OTHER_ARGUMENTS not in said)
