"""Peer: the usual way, one Celery task for each event, which patches that event's product.

DATABASE_URL=… CELERY_BROKER_URL=… celery -A benchmarks.peer_celery worker
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from celery import Celery
from kombu import Queue

from backend.app import db
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import patch
from backend.embedded.supervisor import Child, program
from benchmarks.catalog import connect, run
from benchmarks.pipeline import NotDone
from benchmarks.servers import Servers

QUEUE: Final = "bench.tasks"
NAME: Final = "patch_one"
DONE: Final = f"SELECT count(*) FROM patches WHERE task = '{NAME}'"

app = Celery("peer", broker=os.environ.get("CELERY_BROKER_URL", "memory://"))
app.conf.update(
    task_queues=[Queue(QUEUE, durable=True)],
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=32,  # better than Celery's default of 4 for tasks this short
    worker_concurrency=4,
    broker_connection_retry_on_startup=True,
)


@app.task(name=NAME)
def patch_one(product: int) -> None:
    """Patch one product."""
    with db.transaction() as connection:
        patch(connection, Keys([product]), Cause(NAME))


def seconds(servers: Servers, dsn: str, products: list[int]) -> float:
    """Seconds from the first task's publishing until the last one's patch is committed.

    Every product must differ from its cached row, so that each patch leaves its trace.
    """
    environment = {**os.environ, "DATABASE_URL": dsn, "CELERY_BROKER_URL": servers.broker.url}
    worker = Child(
        "peer", [program("celery"), "-A", "benchmarks.peer_celery", "worker"], servers.place / "peer.log", environment
    )
    app.conf.update(broker_url=servers.broker.url)
    app.control.purge()
    worker.begin()
    try:
        _await_worker()
        with connect(dsn) as connection:
            before = run(connection, DONE)[0][0]
            begun = time.monotonic()
            for product in products:
                patch_one.delay(product)
            while run(connection, DONE)[0][0] - before < len(products):
                if time.monotonic() - begun > 600:
                    raise NotDone("the peer's tasks do not end")
                time.sleep(0.02)
            return time.monotonic() - begun
    finally:
        worker.terminate()
        time.sleep(0.5)
        worker.kill()
        with app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            channel.queue_delete(QUEUE)


def _await_worker() -> None:
    deadline = time.monotonic() + 60
    while not app.control.ping(timeout=0.5, limit=1):
        if time.monotonic() > deadline:
            raise NotDone("the peer's worker does not start")
