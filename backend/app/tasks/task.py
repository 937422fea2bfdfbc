"""What every ledgered task shares: it is announced before it is queued, and its run is written down as it goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from celery.result import AsyncResult
from kombu.exceptions import OperationalError as BrokerError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_exponential_jitter

from backend.app import db
from backend.app.errors import BrokerAway, CitycacheError, DatabaseAway, NotFound
from backend.app.ledger import ledger
from backend.app.tasks import roster
from backend.app.tasks.single_flight import Skipped, flight
from backend.app.telemetry import metrics, tracing
from events.connection import LOST
from events.errors import EventError

log = logging.getLogger(__name__)
PATIENCE_SECONDS: Final = 300.0  # how long a task waits for the database before its message goes back to the queue
TAKEOVER_SECONDS: Final = 15.0  # how long a redelivered task waits for the lock of its dead predecessor
REPORT_SECONDS: Final = 0.5
NOT_QUEUED: Final = "not queued: the broker is away"


def _may_be_tried_again(failure: BaseException) -> bool:
    """Whether the run did nothing wrong: the server was away, or undid a transaction for the sake of others."""
    return isinstance(failure, DatabaseAway) or db.is_rollback(failure)


waiting_for_database = retry(
    retry=retry_if_exception(_may_be_tried_again),
    wait=wait_exponential_jitter(multiplier=0.2, max=5),
    stop=stop_after_delay(PATIENCE_SECONDS),
    before_sleep=lambda state: log.warning("tried again: %s", state.outcome and state.outcome.exception()),
    reraise=True,
)


class LedgerTask(Task):  # type: ignore[type-arg]
    """A task whose runs are rows of the ledger."""

    abstract = True
    throws = (CitycacheError, EventError)  # Celery logs no traceback of what is a run's result in words
    _reported = 0.0

    def apply_async(  # type: ignore[override]
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> Any:
        """Announce the run, then queue it. Raises BrokerAway or DatabaseAway."""
        task_id = task_id or str(uuid4())
        headers = options["headers"] = dict(options.get("headers") or {})
        trigger = headers.setdefault("trigger", "cli")
        instant = headers.pop("scheduled_for", None)  # set by beat
        if trace := tracing.traceparent():
            headers.setdefault("traceparent", trace)
        expires = options.get("expires")
        seconds = float(expires) if isinstance(expires, (int, float)) else None
        if instant is None:
            ledger.announce(task_id, self.name, trigger, kwargs or {}, seconds)
            return self._publish(args, kwargs, task_id, options)
        announced = ledger.announce_due(
            task_id, self.name, trigger, kwargs or {}, seconds, datetime.fromisoformat(instant)
        )
        if announced is None:
            log.info("%s is queued already for this instant, by another beat", self.name)
            return AsyncResult(task_id, app=self.app)
        queued = self._publish(args, kwargs, announced, options, due=True)
        ledger.queued(announced)
        return queued

    def _publish(self, args: Any, kwargs: Any, task_id: str, options: dict[str, Any], due: bool = False) -> Any:
        """Send the message; on a connection that has ended, once more on a new one."""
        try:
            return super().apply_async(args, kwargs, task_id=task_id, **options)
        except (BrokerError, *LOST) as failure:
            if due:
                ledger.not_queued(task_id, NOT_QUEUED)  # and stays due
            else:
                ledger.finish(task_id, "FAILURE", error=NOT_QUEUED)
            raise BrokerAway(f"the broker is away: {failure}") from failure

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and write down how it began and ended. While the database is away, wait."""
        try:
            return self._run(*args, **kwargs)
        except Exception as failure:
            if not _may_be_tried_again(failure):
                raise
            raise Reject(str(failure), requeue=True) from failure

    @waiting_for_database
    def _run(self, *args: Any, **kwargs: Any) -> Any:
        with closing(db.direct(f"run {self.task_id}")):  # by which the lifeline sees that somebody works on it
            return self._run_once(*args, **kwargs)

    def _run_once(self, *args: Any, **kwargs: Any) -> Any:
        if not ledger.begin(self.task_id, self.name, self.trigger, kwargs):
            raise Ignore
        began = time.perf_counter()
        try:
            with (
                tracing.span(self.name, self._header("traceparent"), root=True, task_id=self.task_id),
                self._flight(kwargs),
            ):
                result = self.run(*args, **kwargs)
        except Skipped as skipped:
            self._finish("SKIPPED", began, result={"reason": str(skipped)})
            raise Ignore from skipped
        except (DatabaseAway, Retry, Reject, Ignore):
            raise
        except Exception as failure:
            if db.is_rollback(failure):
                raise
            self._finish("FAILURE", began, error=f"{type(failure).__name__}: {failure}"[:2000])
            log.warning("%s failed: %s", self.name, failure, extra={"task_id": self.task_id})
            raise
        self._finish("SUCCESS", began, result=result)
        log.info("%s succeeded", self.name, extra={"task_id": self.task_id, "result": result})
        return result

    def _finish(self, state: str, began: float, result: Any = None, error: str | None = None) -> None:
        ledger.finish(self.task_id, state, result, error)
        metrics.TASK_SECONDS.labels(self.name, state).observe(time.perf_counter() - began)
        if isinstance(result, dict) and result.get("drift"):
            metrics.DRIFT_ROWS.labels(self.name).inc(result["drift"])
        self.ended(state)

    def ended(self, state: str) -> None:
        """What follows when a run has ended in this state and the ledger says so; nothing."""

    @property
    def task_id(self) -> str:
        """This run's id."""
        return str(self.request.id)

    @property
    def trigger(self) -> str:
        """Who started this run."""
        return str(self._header("trigger") or "cli")

    def _header(self, name: str) -> Any:
        return (self.request.headers or {}).get(name) or self.request.get(name)

    def _flight(self, arguments: Mapping[str, Any]) -> AbstractContextManager[None]:
        kind = roster.BY_NAME[self.name]
        if kind.flight is None:
            return nullcontext()
        return flight(kind.flight, kind.patience + self.patience, arguments[kind.of] if kind.of else None)

    @property
    def patience(self) -> float:
        """Seconds to wait for a flight that a dead predecessor of this very run may still hold."""
        return TAKEOVER_SECONDS if (self.request.delivery_info or {}).get("redelivered") else 0.0

    @property
    def report(self) -> Callable[[Mapping[str, Any]], None]:
        """Shows progress, at most twice a second. Taken in the task's own thread, where Celery knows which run this
        is, it may be called in any."""
        return partial(self._report, self.task_id)

    def _report(self, task_id: str, state: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            ledger.progress(task_id, state)


def start(task: LedgerTask, trigger: str, **kwargs: Any) -> ledger.Run:
    """Queue a run and answer its row. Raises BrokerAway or DatabaseAway."""
    task_id = str(uuid4())
    task.apply_async(kwargs=kwargs, task_id=task_id, headers={"trigger": trigger})
    started = ledger.run(UUID(task_id))
    if started is None:
        raise NotFound(f"run {task_id} is not in the ledger")
    return started
