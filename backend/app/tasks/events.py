"""Tasks that events cause: a batch of keys, and wide patches."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from celery import Task
from celery.exceptions import Reject
from msgspec import Meta
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_exponential_jitter

from backend.app.caches.apply import WideHooks, drain_wide
from backend.app.celery_app import app
from backend.app.dead_letters.letters import DeadLetter
from backend.app.errors import Away, BrokerAway
from backend.app.health import watchdog
from backend.app.ledger import lifeline
from backend.app.tasks import rebuilds
from backend.app.tasks.roster import APPLY_EVENTS
from backend.app.tasks.task import LedgerTask
from backend.app.telemetry import metrics, tracing
from backend.app.worker import attempts, batch, holding
from backend.app.worker.attempts import Suspect
from events import contract
from events.contract import Hint

log = logging.getLogger(__name__)
RETURN_SECONDS: Final = 1.0  # before a batch that failed returns to the queue, so that it does not come round in a rush

Id = Annotated[int, Meta(ge=contract.LEAST_BIGINT, le=contract.LARGEST_BIGINT)]
Text = Annotated[str, Meta(max_length=contract.MOST_ID, pattern=r"^[^\x00]*$")]
HintRow = tuple[
    Literal["product", "company", "city", "watched", "canary"], Id | None, Text, Text, Text | None
]  # the fields of a Hint
NoLetters = Annotated[Sequence[dict[str, Any]], Meta(max_length=0)]  # a call from outside the worker brings none
NoSuspect = Annotated[dict[str, Any], Meta(max_length=0)]  # nor says how often it came
Instant = Annotated[float, Meta(ge=0)]  # seconds since the epoch

waiting_for_servers = retry(  # without an end: the events stay unacknowledged, and there is nothing else to do
    retry=retry_if_exception_type(Away),
    wait=wait_exponential_jitter(multiplier=0.1, max=5),
    before_sleep=lambda state: _wait_after(state),
    reraise=True,
)


@app.task(name=APPLY_EVENTS.name, bind=True)
def apply_catalog_events(
    self: Task[Any, Any],
    hints: Sequence[HintRow],
    unreadable: NoLetters,
    received_at: Instant,
    parent: Text | None = None,
    suspect: NoSuspect | None = None,
) -> dict[str, Any]:
    """Look again at the keys of a batch of events. Rows of `hints` are (noun, id, event id, time, traceparent).

    `parent` is the trace context of the first traced message among them; `suspect` says that they are all of one
    message that came back often, see `Suspect`.

    A failure that nobody foresaw must not acknowledge them: they return to the queue and come again one by one.
    """
    letters = [DeadLetter(**letter) for letter in unreadable]
    events = batch.Batch([Hint(*hint) for hint in hints], letters, min(received_at, time.time()))
    try:
        with tracing.span(APPLY_EVENTS.name, parent, batch.traces_of(events.hints), kind="consumer", events=len(hints)):
            if suspect:
                return _apply_suspect(events, msgspec.convert(suspect, Suspect), str(self.request.id))
            return apply_events(events, str(self.request.id))
    except Exception as failure:
        log.exception("a batch of %s events returns to the queue", len(hints))
        time.sleep(RETURN_SECONDS)
        raise Reject(str(failure), requeue=True) from failure


def apply_events(events: batch.Batch, task_id: str) -> dict[str, Any]:
    """Apply a batch, for as long as it takes; what is too wide for it is queued before anything is acknowledged."""
    applied = _apply_in_the_end(events, task_id)
    holding.end()
    return applied


def _apply_suspect(events: batch.Batch, suspect: Suspect, task_id: str) -> dict[str, Any]:
    """Apply one message that came back often, or bury it if it is what kills workers."""
    deaths = waiting_for_servers(attempts.begin)(suspect, task_id)
    if deaths >= attempts.MOST_DEATHS:
        events = batch.Batch((), [DeadLetter(**suspect.given_up)], events.received_at)
    with attempts.ending(suspect, task_id):
        return apply_events(events, task_id)


@waiting_for_servers
def _apply_in_the_end(events: batch.Batch, task_id: str) -> dict[str, Any]:
    applied = batch.apply_batch(events, task_id)
    if any(applied.get(name) for name in ("wide", "everything", "sets")):
        begin_wide_patches("event")
    return applied


class WidePatches(LedgerTask):
    """Looks once more when it has ended: what was asked for since its last look has no run of its own."""

    abstract = True

    def ended(self, state: str) -> None:
        """Queue the next run if there is work for it; after a failure that is left to the lifeline."""
        if state != "FAILURE":
            begin_wide_patches(self.trigger)


def begin_wide_patches(trigger: str) -> None:
    """Queue a run for the wide patches that are asked for, unless one is there already. Raises DatabaseAway.

    That one looks again after it has ended in the ledger, so it sees what was there while it had not.
    """
    if not lifeline.is_wide_unattended():
        return
    try:
        apply_wide_patches.apply_async(headers={"trigger": trigger})
    except BrokerAway as failure:
        log.warning("wide patches wait for a worker that finds them: %s", failure)


@app.task(base=WidePatches, name="apply_wide_patches", bind=True)
def apply_wide_patches(self: LedgerTask) -> dict[str, int]:
    """Patch all products of companies that are too large for a batch, and reconcile after a TRUNCATE."""
    hooks = WideHooks(
        everything=lambda: rebuilds.rebuild_everything(self, patience=600.0),
        apart=lambda products: batch.apply_apart(
            [Hint("product", product, "", _now(), None) for product in products], self.task_id
        ),
        progress=self.report,
    )
    done = drain_wide(self.name, self.task_id, hooks)
    metrics.WIDE_COMPANIES.inc(done["companies"])
    metrics.WIDE_KEYS.inc(done["keys"])
    return done


def _wait_after(state: RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    log.warning("events wait: %s", failure)
    watchdog.move("relay")  # which waits here where all is one process
    holding.begin(failure)
    attempts.wait(str(state.args[1]))
    metrics.BATCH_RETRIES.labels("away").inc()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
