"""The worker's lifeline: which runs have a message, by the word of broker and workers, and how lost ones go on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from celery.signals import worker_ready
from kombu.exceptions import KombuError

from backend.app import db
from backend.app.caches import apply
from backend.app.celery_app import app
from backend.app.errors import BrokerAway
from backend.app.health import inspector
from backend.app.health.worker_answers import HeldRuns, understood
from backend.app.ledger.lifeline import Lifeline, Lost
from backend.app.settings import settings
from backend.app.tasks.events import begin_wide_patches
from backend.app.tasks.replay import replay_events
from events.connection import LOST
from events.topology import MAINTENANCE

REPLY_SECONDS: Final = 1.0


def lifeline() -> Lifeline:
    """This process's lifeline."""
    return Lifeline(
        held,
        partial(begin_wide_patches, "event"),
        {replay_events.name: restart},
        after_promotion=apply.ask_for_everything,
    )


@worker_ready.connect
def _watch(**kwargs: Any) -> None:
    """Look after runs on a thread of its own, as long as the worker lives; its children have been forked by now."""
    threading.Thread(target=lifeline().run, args=(threading.Event(),), name="lifeline", daemon=True).start()


def restart(run: Lost) -> None:
    """Queue the run again under its id; it goes on where it stood. Raises Away."""
    task = app.tasks[run.task]
    task.apply_async(kwargs=dict(run.arguments), task_id=run.task_id, headers={"trigger": run.trigger})


def held(task_ids: Sequence[str]) -> set[str] | None:
    """Those of the runs that a worker has; None while messages wait in the queue, or when a worker does not answer.

    Raises Away.
    """
    if settings().in_process or inspector.depths(MAINTENANCE)[MAINTENANCE]:
        return None
    try:
        replies = app.control.broadcast("held_runs", reply=True, timeout=REPLY_SECONDS) or []
    except (*LOST, KombuError) as failure:
        raise BrokerAway(f"the broker is away: {failure!r}") from failure
    answers = understood(replies, HeldRuns)
    if len(answers) < _connected_workers():
        return None
    return {task_id for answer in answers.values() for task_id in answer.runs}.intersection(task_ids)


def _connected_workers() -> int:
    with db.transaction() as connection:
        return int(connection.exec_driver_sql(inspector.CONNECTED_WORKERS).scalar_one())
