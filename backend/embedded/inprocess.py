"""Everything in one process, where there is no RabbitMQ: API, relay, worker and beat as threads.

The relay hands outbox rows straight to the patch and moves them into the log when it is committed, so no event is lost
whatever happens to the process. Only refreshes, replays and wide patches are Celery tasks, on Celery's in-memory
transport; those under way when the process dies are marked as failed at the next start, and wide patches go on, since
they are rows.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from uuid import uuid4

import uvicorn
from celery.beat import Service
from celery.worker import WorkController

from backend.app import db
from backend.app.celery_app import app
from backend.app.dead_letters.letters import DeadLetter
from backend.app.errors import Away
from backend.app.health import watchdog
from backend.app.ledger import ledger
from backend.app.relay.metrics import CountingWatcher
from backend.app.relay.process import connection, pace
from backend.app.settings import settings
from backend.app.tasks.events import apply_events
from backend.app.telemetry import logs
from backend.app.worker import batch
from backend.app.worker.consumer import read_parts
from events import contract
from events.contract import Hint
from events.outbox import Outbox, Row
from events.packing import encoded_slim
from events.relay import Relay

log = logging.getLogger(__name__)


class ToPatch:
    """Delivers outbox rows by applying them; the log is the table."""

    def __init__(self, outbox: Outbox) -> None:
        outbox.log_into("table")

    def deliver(self, rows: Sequence[Row]) -> list[int]:
        """Apply a batch; all of its ids."""
        hints: list[Hint] = []
        letters: list[DeadLetter] = []
        for row in rows:  # the images are not looked at, whatever is in them
            event = encoded_slim(row)
            read, unread = read_parts(event, contract.STRUCTURED, {})
            hints += read
            letters += unread
        apply_events(batch.Batch(hints, letters), str(uuid4()))
        return [row.id for row in rows]

    def heartbeat(self) -> None:
        """Nothing to keep alive."""

    def close(self) -> None:
        """Nothing to close."""


def main() -> None:
    """`python -m backend.embedded.inprocess HOST PORT`."""
    _, host, port = sys.argv
    serve(host, int(port))


def serve(host: str, port: int) -> None:
    """Run until SIGTERM or SIGINT."""
    logs.configure(settings().log_format, settings().log_level)
    db.engine("in-process", size=30)
    ledger.abandon("its process ended before it did")
    relay = Relay(connection, ToPatch, pace(), (Away,), CountingWatcher())
    worker = WorkController(
        app=app, pool_cls="threads", concurrency=settings().worker_concurrency,
        without_gossip=True, without_mingle=True, without_heartbeat=True, hostname=f"in-process-{os.getpid()}",
    )  # fmt: skip
    for name in ("relay", "beat"):
        watchdog.watch(name, settings().watchdog_seconds)
    for name, run in {"relay": relay.run, "worker": worker.start, "beat": beat().start}.items():
        threading.Thread(target=_fatal, args=(name, run), name=name, daemon=True).start()
    uvicorn.run("backend.app.main:app", host=host, port=port, log_config=None, timeout_graceful_shutdown=5)
    relay.stop()


def beat() -> Service:
    """Beat with the configured scheduler; by itself the service takes Celery's own, which keeps a file."""
    app.loader.import_default_modules()  # a task that is not there yet would be queued past the ledger
    return Service(app, scheduler_cls=app.conf.beat_scheduler)


def _fatal(name: str, run: Callable[[], object]) -> None:
    """A part that ends takes the process with it: whoever supervises starts all of it anew."""
    try:
        run()
    except BaseException:
        log.exception("%s failed, the process ends", name)
        os._exit(1)


if __name__ == "__main__":
    main()
