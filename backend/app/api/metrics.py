"""What /metrics shows: this process's numbers, and the pipeline's, read when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.app.api import database, stats
from backend.app.api.probe import Shared, ask_all
from backend.app.database import replica
from backend.app.health import inspector
from backend.app.health.answer import Answer
from backend.app.observing import readings
from backend.app.settings import settings
from backend.app.telemetry import metrics

SECONDS: Final = 1.0  # that an answer is kept for whoever asks next
Number = readings.Number
EVERY_PROCESS: Final = (REGISTRY, metrics.API)  # REGISTRY: the client library's own, of Python and of the process
ALL_IN_ONE: Final = (*EVERY_PROCESS, metrics.RELAY, metrics.WORKER)


async def _exposition() -> tuple[bytes, int, None, str]:
    """Body, status, headers and media type."""
    answers: dict[str, Any] = await ask_all(
        outbox=stats.outbox, runs=stats.counts, queues=inspector.depths, database=_readings, answers=_database_answers,
        replica=_replica,
    )  # fmt: skip
    pipeline = CollectorRegistry()
    pipeline.register(Pipeline([*_up(answers), *_flow(answers), *(answers["database"].value or [])]))
    own = ALL_IN_ONE if settings().in_process else EVERY_PROCESS
    return b"".join(map(generate_latest, (*own, pipeline))), 200, None, CONTENT_TYPE_LATEST


exposition: Final = Shared(_exposition, SECONDS)


class Pipeline(Collector):
    """Numbers read a moment ago, as metrics."""

    def __init__(self, numbers: Iterable[Number]) -> None:
        self._numbers = list(numbers)

    def collect(self) -> Iterator[Metric]:
        """One family a reading that has a number."""
        for name, reading in metrics.READINGS.items():
            if found := [(labels, value) for said, labels, value in self._numbers if said == name]:
                family = reading.family()
                for labels, value in found:
                    family.add_metric(labels, value)
                yield family


def _readings() -> list[Number]:
    database.prepare()
    return readings.readings()


def _replica() -> Any:
    database.prepare()
    return replica.look()


def _database_answers() -> None:
    """Apart from what is counted: a slow answer is one."""
    with database.transaction() as connection:
        connection.exec_driver_sql("SELECT 1")


def _up(answers: dict[str, Answer[Any]]) -> Iterator[Number]:
    for server, question in (("database", "answers"), ("broker", "queues")):
        yield "up", (server,), float(answers[question].failure is None)
    if settings().database_read_url:
        yield "up", ("replica",), float(answers["replica"].failure is None)


def _flow(answers: dict[str, Answer[Any]]) -> Iterator[Number]:
    if (seen := answers["replica"].value) and seen.behind_seconds is not None:
        yield "reads_behind_seconds", (), seen.behind_seconds
    lag = answers["outbox"].value
    if lag and lag.outbox_rows is not None:
        yield "outbox_rows", (), lag.outbox_rows
        yield "outbox_oldest_seconds", (), lag.oldest_event_seconds
    for queue, messages in (answers["queues"].value or {}).items():
        if messages is not None:
            yield "queue_messages", (queue,), messages
    for task, states in (answers["runs"].value or {}).items():
        for state, number in states.items():
            yield "task_runs", (task, state), number


class Measured:
    """Middleware: how long each request took, by the route's template, never by its path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Time one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begin, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - begin
            metrics.HTTP_SECONDS.labels(scope["method"], route, str(status)).observe(seconds)
