"""The relay as a process: events' relay loop on this system's database and broker."""

from __future__ import annotations

import logging
import signal
from types import FrameType

import psycopg2.extensions

from backend.app import db
from backend.app.errors import Away
from backend.app.settings import settings
from events.outbox import Outbox
from events.publisher import Publisher
from events.relay import Pace, Relay

log = logging.getLogger(__name__)


def connection() -> psycopg2.extensions.connection:
    """The relay's own connection; no statement of it takes long."""
    return db.direct("relay", statement_ms=20_000)


def pace() -> Pace:
    """How the relay polls, from the settings."""
    chosen = settings()
    return Pace(chosen.relay_batch_rows, chosen.relay_poll_ms_min / 1000, chosen.relay_poll_ms_max / 1000)


def to_broker(outbox: Outbox) -> Publisher:
    """Deliver to the exchange; while the broker keeps us waiting, the leader's session stays alive."""
    return Publisher(settings().celery_broker_url, while_waiting=outbox.ping)


def run() -> None:
    """Relay until SIGTERM or SIGINT."""
    relay = Relay(connection, to_broker, pace(), away=(Away,))

    def stop(number: int, frame: FrameType | None) -> None:
        relay.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    relay.run()
    log.info("relay stopped")
