"""Every name on the broker, and `declare`, which makes them; safe to run by anyone at any time.

Arguments of a queue are frozen at its declaration, so they hold only what can never change (its type, the log's
segment size). Limits, dead-letter exchange and retention are policies: `POLICIES`, set by whoever runs the broker.
"""

from __future__ import annotations

from typing import Any, Final

from kombu import Exchange, Queue

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


def declare(channel: Any) -> None:
    """Declare exchanges, queues and bindings; raises the channel's error if one exists with other arguments."""
    for exchange in (EVENTS, DEAD_LETTER_EXCHANGE):
        exchange(channel).declare()
    for queue in (LOG, UPDATER, DEAD_LETTERS):
        queue(channel).declare()
    for key in (*UPDATER_KEYS, CANARY_KEY):
        UPDATER(channel).bind_to(EVENTS, key)
