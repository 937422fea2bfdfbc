"""The Celery app: queues, the documented schedule, and the step that consumes catalog events.

    celery -A backend.app.celery_app worker
    celery -A backend.app.celery_app beat

Any number of both may run. What is decided about each task stands in `tasks/roster.py`.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.apps import worker as celery_worker
from celery.signals import (
    beat_init,
    celeryd_init,
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from kombu import Exchange, Queue

from backend.app import db, garbage_collection
from backend.app.beat.schedule import ENTRIES
from backend.app.errors import BadSetting, sentence
from backend.app.health import watchdog
from backend.app.settings import settings
from backend.app.startup import end_on_unfit_database, warn_on_default_passwords
from backend.app.tasks.roster import TASKS
from backend.app.tasks.task import LedgerTask
from backend.app.telemetry import logs, metrics, serve, tracing
from backend.app.worker import connection, control, ending, holding, questions, stopping
from backend.app.worker.consumer import EventConsumer
from backend.app.worker.pulse import WorkerPulse
from events import foreign, tls
from events.topology import MAINTENANCE, PATCHES

AT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}  # who publishes will not wait
KILL_SECONDS = 60.0  # after the limit of its time, for a run to end by itself
beat_schedule = {entry.name: entry.as_celery() for entry in ENTRIES}

_broker, _encryption = tls.split(settings().celery_broker_url)
app = Celery(
    "citycache",
    broker=_broker,
    backend=settings().celery_result_backend,
    control=None if settings().in_process else control.FreshControl,
    include=[
        "backend.app.tasks.events",
        "backend.app.tasks.rebuilds",
        "backend.app.tasks.replay",
        "backend.app.tasks.rescue",
    ],
)
app.set_default()  # shared by every thread: a task called from an API thread must not bind to another app
app.conf.update(
    beat_schedule=beat_schedule,
    beat_scheduler="backend.app.beat.scheduler:LedgerScheduler",
    beat_max_loop_interval=5,
    timezone="UTC",
    enable_utc=True,
    task_queues=[
        Queue(name, Exchange(name, "direct"), routing_key=name, queue_arguments={"x-queue-type": "quorum"})
        for name in (PATCHES, MAINTENANCE)  # quorum: a classic queue of a cluster is away with its node
    ],
    task_default_queue=MAINTENANCE,
    task_routes={kind.name: {"queue": kind.queue} for kind in TASKS},
    task_annotations={
        kind.name: {"soft_time_limit": kind.limit, "time_limit": kind.limit + KILL_SECONDS}
        for kind in TASKS
        if kind.limit
    },
    task_create_missing_queues=False,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,  # the ledger has it; rpc:// would leave a reply queue behind for each thread
    task_store_errors_even_if_ignored=False,
    task_publish_retry=True,  # a pooled connection that has ended is replaced, and the message sent again
    task_publish_retry_policy=AT_ONCE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    worker_prefetch_multiplier=1,
    worker_consumer="backend.app.worker.connection:SwiftConsumer",
    worker_concurrency=settings().worker_concurrency,
    worker_enable_remote_control=True,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_read_url=_broker,  # Celery prefers the environment's CELERY_BROKER_URL to `broker`, with its TLS parameters
    broker_write_url=_broker,
    broker_use_ssl=_encryption,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    broker_connection_timeout=2,
    broker_heartbeat=20,
    broker_pool_limit=10,
    broker_transport_options=(
        {"polling_interval": 0.05}
        if settings().in_process
        else {"confirm_publish": True, "confirm_timeout": 5, "read_timeout": 15, "write_timeout": 15, **AT_ONCE}
    ),
    control_queue_durable=False,
    control_queue_exclusive=True,
    event_queue_exclusive=True,
    event_queue_durable=False,
)


def _check_result_backend() -> None:
    """Celery makes it when the first task is queued, and would refuse every one of them then. Raises BadSetting."""
    try:
        _ = app.backend
    except Exception as failure:  # whatever the module raises that the URL names, or its absence
        raise BadSetting(f"CELERY_RESULT_BACKEND: Celery cannot use it: {sentence(failure)}") from None


_check_result_backend()


def ledgered(run: Callable[..., Any]) -> Any:
    """A decorator: a task by the name of the function, which takes it as `self`; its runs are rows of the ledger."""
    return app.task(base=LedgerTask, name=run.__name__, bind=True)(run)


if not settings().in_process:
    app.steps["consumer"].add(EventConsumer)
    app.steps["consumer"].add(WorkerPulse)
    app.steps["worker"].add(ending.EndsInTime)


foreign.tolerate()
questions.close_others()


class Beat(app.Beat):  # type: ignore[misc, name-defined]
    """Celery's, without its banner where that would be no JSON."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **(options | {"quiet": True} if settings().log_format == "json" else options))

    def install_sync_handler(self, service: Any) -> None:
        """Of signals, once there is a scheduler: the handler closes it, and would ask for it amid its import."""
        _ = service.scheduler
        super().install_sync_handler(service)


app.Beat = Beat  # type: ignore[misc]


@celeryd_init.connect
def _without_banner(instance: Any, **kwargs: Any) -> None:
    if settings().log_format == "json":
        instance.quiet = True
        celery_worker.safe_say = _say_in_json  # type: ignore[attr-defined]


def _say_in_json(message: str, *stream: Any) -> None:
    """What a signal handler says; the log's own stream may be in the midst of a line."""
    entry = {"time": logs.now(), "level": "INFO", "logger": "celery.worker", "message": message}
    os.write(sys.stderr.fileno(), f"{json.dumps(entry)}\n".encode())


beat_init.connect(lambda **kwargs: watchdog.watch("beat", settings().watchdog_seconds), weak=False)
celeryd_init.connect(connection.own_name)
worker_init.connect(garbage_collection.collect_seldom)  # before the children are forked, which share what is loaded
worker_init.connect(garbage_collection.fork_small)
worker_shutting_down.connect(stopping.within_deadline)
worker_process_init.connect(stopping.with_the_worker)


@setup_logging.connect
def _logging(**kwargs: Any) -> None:
    logs.configure(settings().log_format, settings().log_level)
    warn_on_default_passwords(settings())
    end_on_unfit_database()
    for name in ("celery.worker.strategy", "celery.app.trace"):  # two lines a batch; the ledger has them, and more
        logging.getLogger(name).setLevel(logging.DEBUG if settings().log_level == "DEBUG" else logging.WARNING)


@worker_ready.connect
def _show_metrics(**kwargs: Any) -> None:
    """Only now: the children have been forked, from a process without another thread."""
    metrics.begin_worker(name for name, task in app.tasks.items() if isinstance(task, LedgerTask))
    serve.serve(metrics.WORKER)
    if not settings().in_process:  # there the API's loop is watched
        watchdog.watch("worker", settings().watchdog_seconds)


worker_process_shutdown.connect(lambda **kwargs: tracing.end(), weak=False)


@worker_process_init.connect
def _own_connections(**kwargs: Any) -> None:
    tracing.name_children("worker")
    holding.end()
    db.engine(f"worker child {os.getpid()} of {os.getppid()}@{socket.gethostname()[:20]}", size=2)
