"""What /metrics shows: this process's numbers, and the pipeline's, read when they are asked for.

citycache_http_requests_seconds    requests by method, route and status
citycache_up                       1 where database or broker answered
citycache_outbox_rows              events that are committed and not yet confirmed by the broker
citycache_outbox_oldest_seconds    age of the oldest of them
citycache_queue_messages           messages waiting in a queue
citycache_task_runs                runs of the last day by task and state
"""

from __future__ import annotations

import time
from typing import Any, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.app import broker
from backend.app.api import stats
from backend.app.api.probe import ask_all

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, with nothing that anybody asks for
BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
REQUESTS: Final = Histogram(
    "citycache_http_requests_seconds", "Requests", ("method", "route", "status"), buckets=BUCKETS
)


async def exposition() -> tuple[bytes, int, None, str]:
    """Body, status, headers and media type."""
    answers: dict[str, Any] = await ask_all(outbox=stats.outbox, runs=stats.counts, queues=broker.depths)
    registry = CollectorRegistry()
    up = Gauge("citycache_up", "Whether the server answered", ("server",), registry=registry)
    up.labels("database").set(answers["runs"].failure is None)
    up.labels("broker").set(answers["queues"].failure is None)
    _pipeline(registry, answers)
    return generate_latest(REGISTRY) + generate_latest(registry), 200, None, CONTENT_TYPE_LATEST


def _pipeline(registry: CollectorRegistry, answers: dict[str, Any]) -> None:
    lag = answers["outbox"].value
    if lag and lag.outbox_rows is not None:
        Gauge("citycache_outbox_rows", "Events not yet confirmed", registry=registry).set(lag.outbox_rows)
        oldest = Gauge("citycache_outbox_oldest_seconds", "Age of the oldest event", registry=registry)
        oldest.set(lag.oldest_event_seconds)
    queued = Gauge("citycache_queue_messages", "Messages waiting", ("queue",), registry=registry)
    for queue, messages in (answers["queues"].value or {}).items():
        if messages is not None:
            queued.labels(queue).set(messages)
    runs = Gauge("citycache_task_runs", "Runs of the last day", ("task", "state"), registry=registry)
    for task, states in (answers["runs"].value or {}).items():
        for state, number in states.items():
            runs.labels(task, state).set(number)


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
            REQUESTS.labels(scope["method"], route, str(status)).observe(time.perf_counter() - begin)
