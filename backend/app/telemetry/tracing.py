"""Traces by OpenTelemetry, when OTEL_EXPORTER_OTLP_ENDPOINT is set: one from the HTTP request to the patch.

The context travels as W3C `traceparent`: in the writer's transaction as the setting `citycache.traceparent`, which the
capture triggers put into the outbox; in each event; in the header of a message, then naming the relay's span; in the
headers of a Celery task. Without an endpoint nothing of OpenTelemetry's SDK is imported and spans cost nothing.
Every process, also every forked child, makes a provider of its own at its first span.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from backend.app.settings import settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, Span

log = logging.getLogger(__name__)
END_SECONDS: Final = 2.0  # a collector that does not answer must not keep a process alive
MOST_LINKS: Final = 128  # as the SDK's own limit
Kind = Literal["internal", "producer", "consumer"]

_providers: dict[int, TracerProvider] = {}  # by process id
_service: list[str] = []
_is_global: list[bool] = []


def enabled() -> bool:
    """Whether anybody wants traces."""
    return bool(settings().otel_exporter_otlp_endpoint)


def begin(service: str) -> None:
    """Say what this process is; without an endpoint nothing happens. The first one counts."""
    _service[:] = _service or [service]
    if enabled() and not _is_global:
        from opentelemetry import trace

        _is_global.append(True)
        trace.set_tracer_provider(_provider())  # for FastAPI, which makes the spans of requests by itself


def name_children(service: str) -> None:
    """Say what the processes are that will be forked from this one, without making anything that threads."""
    _service[:] = _service or [service]


def end() -> None:
    """Send what is left, for two seconds at most."""
    provider = _providers.pop(os.getpid(), None)
    if provider is not None:
        thread = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(END_SECONDS)


@contextmanager
def span(
    name: str,
    parent: str | None = None,
    links: Sequence[str] = (),
    kind: Kind = "internal",
    root: bool = False,
    **attributes: Any,
) -> Iterator[None]:
    """A span around a block: below `parent` (a traceparent) or the present span; without either only as a `root`."""
    started = start(name, parent, links, kind, root, **attributes)
    if started is None:
        yield
        return
    from opentelemetry import trace

    with trace.use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=True):
        yield


def start(
    name: str,
    parent: str | None = None,
    links: Sequence[str] = (),
    kind: Kind = "internal",
    root: bool = False,
    **attributes: Any,
) -> Span | None:
    """The same, to be ended by the caller; None when there is nothing to trace."""
    if not enabled():
        return None
    from opentelemetry import trace

    context = _context(parent)
    if not (root or trace.get_current_span(context).get_span_context().is_valid):
        return None
    return (
        _provider()
        .get_tracer("citycache")
        .start_span(
            name,
            context,
            kind=trace.SpanKind[kind.upper()],
            attributes=attributes,
            links=[link for other in links[:MOST_LINKS] if (link := _link(other))],
        )
    )


def traceparent(of: Span | None = None) -> str | None:
    """W3C form of a span, or of the present one; None when there is none."""
    if not enabled():
        return None
    from opentelemetry import trace
    from opentelemetry.trace.propagation import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    span = of or trace.get_current_span()
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent")


def is_sampled(traceparent: str) -> bool:
    """Whether the caller wants its trace recorded: the lowest bit of the flags."""
    return traceparent != "" and traceparent[-1] in "13579bdf"


def _context(parent: str | None) -> Context | None:
    if not parent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _link(other: str) -> Link | None:
    from opentelemetry import trace

    context = trace.get_current_span(_context(other)).get_span_context()
    return trace.Link(context) if context.is_valid else None


def _provider() -> TracerProvider:
    pid = os.getpid()
    if pid not in _providers:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        _providers.clear()  # a child must not touch its parent's
        named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": f"citycache-{(_service or ['cli'])[0]}"}
        provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        _providers[pid] = provider
    return _providers[pid]
