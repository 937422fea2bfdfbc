"""The relay as a process: events' relay loop on this system's database and broker."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Final

import psycopg2.extensions

from backend.app import db, garbage_collection
from backend.app.errors import Away
from backend.app.health import watchdog
from backend.app.relay.metrics import CountingWatcher, Published
from backend.app.settings import settings
from backend.app.startup import refuse_unfit_database, warn_on_default_passwords
from backend.app.telemetry import metrics, serve, tracing
from backend.app.worker import stopping
from events.errors import EventError
from events.outbox import Outbox
from events.publisher import Publisher
from events.relay import Pace, Relay

log = logging.getLogger(__name__)
STOP_SECONDS: Final = 8.0
LOOK_SECONDS: Final = 0.5


def connection() -> psycopg2.extensions.connection:
    """The relay's own connection; no statement of it takes long."""
    return db.direct("relay", statement_ms=20_000)


def pace() -> Pace:
    """How the relay polls, from the settings."""
    chosen = settings()
    return Pace(chosen.relay_batch_rows, chosen.relay_poll_ms_min / 1000, chosen.relay_poll_ms_max / 1000)


def to_broker(outbox: Outbox) -> Publisher:
    """Deliver to the exchange, and settle which log there is. While the broker keeps us waiting, the leader's session
    stays alive. Raises EventError."""

    def ping() -> None:
        watchdog.move("relay")
        outbox.ping()

    publisher = Publisher(settings().celery_broker_url, ping, Published(), outbox.bury, settings().event_log)
    try:
        outbox.log_into(publisher.log, publisher.no_stream)
    except EventError:
        publisher.close()
        raise
    return publisher


def run() -> None:
    """Relay until SIGTERM or SIGINT, then end within STOP_SECONDS, whatever a server lets us wait for.

    The relay runs in a thread: a signal reaches no Python code in a thread that waits for the database.
    """
    warn_on_default_passwords(settings())
    refuse_unfit_database()
    relay, asked = Relay(connection, to_broker, pace(), away=(Away,), watcher=CountingWatcher()), threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        asked.set()
        relay.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    serve.serve(metrics.RELAY)
    tracing.begin("relay")
    garbage_collection.collect_seldom()
    thread = threading.Thread(target=relay.run, name="relay", daemon=True)
    thread.start()
    watchdog.watch("relay", settings().watchdog_seconds)
    while thread.is_alive() and not asked.wait(LOOK_SECONDS):
        pass
    thread.join(STOP_SECONDS)
    tracing.end()
    if thread.is_alive():
        log.warning("relay stopped while a server kept it waiting; what is not confirmed stays in the outbox")
        os._exit(0)
    if not asked.is_set():
        stopping.end_within(STOP_SECONDS, 1)
        sys.exit(1)  # the thread has told why
    log.info("relay stopped")
