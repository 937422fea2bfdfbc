"""The HTTP API: `uvicorn backend.app.main:app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio.to_thread
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline

from backend import __version__
from backend.app import db
from backend.app.api import (
    audit_log,
    caches,
    cities,
    companies,
    console,
    database,
    dead_letters,
    examples,
    health,
    incidents,
    limits,
    problems,
    products,
    search,
    stats,
    tasks,
)
from backend.app.api.audit_writer import AuditWriter
from backend.app.api.deadline import SECONDS, Deadline
from backend.app.api.edge import server
from backend.app.api.edge.forwarding import Forwarded
from backend.app.api.edge.hosts import Hosts
from backend.app.api.edge.methods import Heads
from backend.app.api.edge.turns import Turns
from backend.app.api.fresh import asking
from backend.app.api.fresh.lookout import Lookout
from backend.app.api.limits import Allowances, Limits, SafeHeaders
from backend.app.api.metrics import Measured
from backend.app.api.reading.answers import Answers
from backend.app.api.reading.shortcut import Shortcut
from backend.app.caches.tree import Trees
from backend.app.console import page
from backend.app.health import watchdog
from backend.app.observing.observer import Observer
from backend.app.settings import settings
from backend.app.startup import end_on_unfit_database, warn_on_default_passwords
from backend.app.telemetry import logs, tracing

TRACES: Final[TelemetryConfig] = {"metrics": False, "logs": False, "operation_spans": False}  # FastAPI's: only requests


def _v1() -> APIRouter:
    v1 = APIRouter(prefix="/api/v1")
    for module in (
        cities,
        companies,
        products,
        caches,
        stats,
        tasks,
        dead_letters,
        incidents,
        audit_log,
        search,
        console,
    ):
        v1.include_router(module.router)
    return v1


V1: Final = _v1()  # its routes are resolved once


def create_app(seconds: float = SECONDS) -> FastAPI:
    """The whole API, which answers each request within `seconds`; connects to nothing before its first request."""
    app = FastAPIOffline(title="citycache", version=__version__, redoc_url=None, lifespan=_lifespan, telemetry=TRACES)
    problems.install(app)
    app.include_router(V1)
    app.include_router(health.router)
    app.include_router(page.router)
    app.state.audit = AuditWriter()
    app.state.turns, app.state.lookout, app.state.answers = Turns(seconds=seconds), Lookout(), Answers(seconds=seconds)
    app.state.trees = Trees()
    rates, the_long_way = Allowances(), app.build_middleware_stack
    app.add_middleware(problems.CatchAll)
    app.add_middleware(Limits, rates)
    for middleware in (Hosts, Measured):
        app.add_middleware(middleware)  # the last one is the outermost
    app.add_middleware(Deadline, seconds)
    for outer in (Heads, SafeHeaders, Forwarded, problems.CatchAll):
        app.add_middleware(outer)
    app.build_middleware_stack = lambda: Shortcut(  # type: ignore[method-assign]
        the_long_way(), app.state.answers, rates, seconds
    )
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    server.take_over()
    logs.configure(settings().log_format, settings().log_level)
    warn_on_default_passwords(settings())
    await anyio.to_thread.run_sync(end_on_unfit_database)
    tracing.begin("api")
    database.prepare()
    observer = Observer()
    if settings().observer and settings().database_url:
        observer.start()
    anyio.to_thread.current_default_thread_limiter().total_tokens = database.THREADS
    watched = asyncio.create_task(_go_round())
    yield
    watched.cancel()
    watchdog.leave("API")
    console.stop(app)
    observer.stop()
    app.state.audit.stop()
    app.state.answers.stop()
    tracing.end()
    db.dispose()


async def _go_round() -> None:
    """The event loop serves everyone: who blocks it blocks all."""
    watchdog.watch("API", settings().watchdog_seconds)
    while True:
        watchdog.move("API")
        await asyncio.sleep(watchdog.LOOK_SECONDS)


def _described(app: FastAPI) -> dict[str, Any]:
    """OpenAPI with the schema of problems, which responses only refer to."""
    if not app.openapi_schema:
        described = get_openapi(title=app.title, version=app.version, routes=app.routes)
        reference = "#/components/schemas/{model}"
        problem = problems.Problem.model_json_schema(ref_template=reference)
        schemas = described.setdefault("components", {}).setdefault("schemas", {})
        schemas |= problem.pop("$defs") | {"Problem": problem}
        limits.describe(described["paths"])
        asking.describe(described["paths"])
        examples.describe(described)
        app.openapi_schema = described
    return app.openapi_schema


server.take_log()
app = create_app()
