"""One trace from the HTTP request to the patch, seen by a collector; and nothing of it without one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.plain import Plain
from tests.servers import ROOT
from tests.system import System
from tests.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


@dataclass(frozen=True)
class Span:
    """What the tests ask of a span."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]


class Collector:
    """Takes traces by OTLP over HTTP, as OpenTelemetry's collector does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    links = tuple(link.trace_id.hex() for link in span.links)
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    self.spans.append(Span(service, span.name, *ids, links))

    def of(self, trace: str) -> dict[str, Span]:
        return {span.name: span for span in list(self.spans) if span.trace == trace}

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


def post(system: System, path: str, body: dict[str, Any], trace: str, sampled: str = "01") -> Any:
    request = urllib.request.Request(
        f"{system.api_url}/api/v1{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "traceparent": f"00-{trace}-{CALLER}-{sampled}"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read())


def test_one_trace_from_the_request_to_the_patch(
    database: str, broker: str, tmp_path: Path, collector: Collector
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OBSERVER": "false",
        "WORKER_CONCURRENCY": "2",
    }
    with System(database, broker, tmp_path / "system", **environment) as system:
        system.start(["worker", "relay", "api"])
        city = post(system, "/cities", {"name": "a"}, "1" * 32)["id"]
        until(lambda: "apply_catalog_events" in collector.of("1" * 32), 30, "the system runs")
        company = post(system, "/companies", {"name": "c", "city_id": city}, TRACE)["id"]

        names = ("POST /api/v1/companies", "publish catalog.company.created", "apply_catalog_events", "patch")
        until(lambda: set(names) <= set(collector.of(TRACE)), 30, "all spans")
        request, publish, batch, patch = (collector.of(TRACE)[name] for name in names)
        assert [span.service for span in (request, publish, batch, patch)] == [
            "citycache-api", "citycache-relay", "citycache-worker", "citycache-worker",
        ]  # fmt: skip
        assert [span.parent for span in (request, publish, batch, patch)] == [CALLER, request.id, publish.id, batch.id]
        assert TRACE in batch.links

        with Plain(database) as plain:
            until(lambda: plain.all("SELECT FROM company_city_mapping"), 10)
            traced = plain.one("SELECT traceparents[1] FROM patches ORDER BY id DESC LIMIT 1")
        assert traced == f"00-{TRACE}-{request.id}-01"

        _a_refresh_is_in_the_trace_of_its_request(system, collector)
        _a_trace_that_its_caller_does_not_record_is_not_recorded(system, collector, company)


def _a_refresh_is_in_the_trace_of_its_request(system: System, collector: Collector) -> None:
    trace = "2" * 32
    post(system, "/celery/tasks/update-cities-product-count", {}, trace)
    names = ("POST /api/v1/celery/tasks/update-cities-product-count", "update_cities_product_count")
    until(lambda: set(names) <= set(collector.of(trace)), 20, "the spans of request and task")
    request, task = (collector.of(trace)[name] for name in names)
    assert task.parent == request.id


def _a_trace_that_its_caller_does_not_record_is_not_recorded(
    system: System, collector: Collector, company: int
) -> None:
    post(system, "/products", {"name": "p", "company_id": company}, "3" * 32, sampled="00")
    post(system, "/products", {"name": "p", "company_id": company}, "4" * 32)
    until(lambda: "patch" in collector.of("4" * 32), 20)
    assert not collector.of("3" * 32)


def test_events_of_several_traces_are_linked(database: str, broker: str, tmp_path: Path, collector: Collector) -> None:
    traces = [f"{number:032x}" for number in range(1, 4)]
    with Plain(database) as plain:
        for trace in traces:
            plain.run("SELECT set_config('citycache.traceparent', %s, false)", (f"00-{trace}-{CALLER}-01",))
            plain.run("INSERT INTO cities (name) VALUES ('a')")

    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with System(database, broker, tmp_path / "system", **environment) as system:
        system.start(["relay", "worker"])
        names = {"publish catalog.city.created", "apply_catalog_events"}
        until(lambda: names <= set(collector.of(traces[0])), 30, "the spans of relay and worker")
        spans = collector.of(traces[0])
        assert set(spans["publish catalog.city.created"].links) == set(traces[1:])
        assert set(spans["apply_catalog_events"].links) == set(traces)


def test_a_collector_that_is_away_holds_nothing_up(database: str, broker: str, tmp_path: Path) -> None:
    with System(database, broker, tmp_path / "system", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as system:
        system.start(["relay", "worker", "api"])
        city = post(system, "/cities", {"name": "a"}, TRACE)["id"]
        post(system, "/companies", {"name": "c", "city_id": city}, TRACE)
        with Plain(database) as plain:
            until(lambda: plain.all("SELECT FROM company_city_mapping"), 20)
        took = system.wait_until(lambda: system.stop() or True, 20)
        assert took < 12


@pytest.mark.parametrize("module", ["backend.app.main", "backend.app.celery_app", "backend.app.relay.process"])
def test_without_an_endpoint_the_sdk_is_not_even_imported(module: str) -> None:
    program = f"""
import sys, {module}
from backend.app.telemetry import tracing
tracing.begin("test")
with tracing.span("a", parent="00-{TRACE}-{CALLER}-01", root=True):
    assert tracing.traceparent() is None
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=ROOT)
