"""What relay, worker and API show to Prometheus while events go through them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from backend.embedded import spawn
from tests.plain import Plain
from tests.scraping import scrape, value
from tests.system import System
from tests.waiting import until


class Scraped:
    """Relay, worker and API with a port of their own each."""

    def __init__(self, database: str, broker: str, place: Path, stack: ExitStack) -> None:
        self.ports = {name: spawn.free_port() for name in ("relay", "worker")}
        self.parts = {
            name: stack.enter_context(
                System(
                    database, broker, place / name, METRICS_PORT=str(port), TMPDIR=str(place), WORKER_CONCURRENCY="2"
                )
            )
            for name, port in self.ports.items()
        }
        self.parts["api"] = stack.enter_context(System(database, broker, place / "api", OBSERVER="false"))
        for name, system in self.parts.items():
            system.start([name])

    def of(self, name: str) -> Any:
        port = self.ports.get(name) or self.parts[name].port
        return scrape(f"http://127.0.0.1:{port}/metrics")

    def value(self, part: str, metric: str, **labels: str) -> float | None:
        return value(self.of(part), metric, **labels)


@pytest.fixture
def scraped(database: str, broker: str, tmp_path: Path) -> Iterator[Scraped]:
    with ExitStack() as stack:
        yield Scraped(database, broker, tmp_path, stack)


def test_events_are_counted_along_their_way(scraped: Scraped, database: str, tmp_path: Path) -> None:
    until(lambda: scraped.value("relay", "citycache_relay_leads") == 1, 30, "a relay leads")
    until(lambda: scraped.of("worker"), 30, "the worker shows metrics")

    with Plain(database) as plain:
        plain.run("INSERT INTO cities (id, name) SELECT n, 'c' || n FROM generate_series(1, 50) AS n")
        plain.run("INSERT INTO companies (id, name, city_id) SELECT n, 'x', n FROM generate_series(1, 50) AS n")

    until(lambda: scraped.value("worker", "citycache_commit_to_cache_seconds_count") == 100, 20, "100 events applied")
    assert scraped.value("relay", "citycache_relay_events_published_total") == 100
    assert 2 <= (scraped.value("relay", "citycache_relay_messages_published_total") or 0) <= 100
    assert (scraped.value("relay", "citycache_relay_confirm_seconds_count") or 0) >= 1
    worker = scraped.of("worker")
    assert value(worker, "citycache_worker_events_total") == 100
    assert value(worker, "citycache_batch_rows_changed_total") == 50
    assert value(worker, "citycache_batch_keys_total") == 100
    batches = value(worker, "citycache_worker_batches_total")
    assert batches == value(worker, "citycache_batch_duration_seconds_count")
    assert value(worker, "citycache_worker_messages_held") == 0
    assert 0 < (value(worker, "citycache_commit_to_cache_seconds_sum") or 0) < 100 * 10
    assert value(worker, "citycache_relay_leads") is None, "a process shows its own metrics only"

    _counters_survive_a_killed_child(scraped, database, tmp_path)
    _the_api_shows_the_pipeline(scraped, database)


def _counters_survive_a_killed_child(scraped: Scraped, database: str, tmp_path: Path) -> None:
    before = scraped.value("worker", "citycache_batch_keys_total") or 0
    main = scraped.parts["worker"].pid("worker")
    children = set(spawn.descendants(main))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(set(spawn.descendants(main)) - children) == 2, 20, "new children")

    with Plain(database) as plain:
        for company in range(1, 21):
            plain.run("UPDATE companies SET city_id = 1 + city_id %% 50 WHERE id = %s", (company,))

    until(lambda: (scraped.value("worker", "citycache_batch_keys_total") or 0) == before + 20, 20, "counters go on")
    places = {path.stem.rpartition("_")[2] for path in tmp_path.glob("citycache-metrics-*/*.db")}
    assert places <= {"main", "child0", "child1"}, "a new child goes on in the files of the one that it replaces"


def _the_api_shows_the_pipeline(scraped: Scraped, database: str) -> None:
    with Plain(database) as plain:
        plain.run("INSERT INTO dead_letters (kind, reason) VALUES ('unreadable', 'a test')")
        plain.run(
            "INSERT INTO observations (seconds, captured, published, applied, patched, latency, canary_ms)"
            " VALUES (5, 1, 1, 1, 1, array_fill(0::bigint, ARRAY[23]) || '{}', 12)"
        )
    shown = scraped.of("api")
    assert value(shown, "citycache_up", server="database") == value(shown, "citycache_up", server="broker") == 1
    assert value(shown, "citycache_outbox_rows") == 0
    assert value(shown, "citycache_queue_messages", queue="city-cache.events") == 0
    assert value(shown, "citycache_dead_letters_open", kind="unreadable") == 1
    assert value(shown, "citycache_dead_letters_open", kind="failed") == 0
    assert (value(shown, "citycache_task_runs", task="apply_catalog_events", state="SUCCESS") or 0) > 0
    assert value(shown, "citycache_canary_seconds") == 0.012
    assert (value(shown, "citycache_canary_age_seconds") or 0) > 0
    assert value(shown, "citycache_audit_findings_total") == 0
    assert value(shown, "citycache_consistency_nines", cache="all", window="hour") == 0
    assert (value(shown, "citycache_http_request_duration_seconds_count", route="/metrics") or 0) >= 0
    assert value(shown, "citycache_relay_leads") is None


def test_a_taken_port_ends_no_relay_and_folders_of_the_dead_are_removed(
    database: str, broker: str, tmp_path: Path
) -> None:
    abandoned = tmp_path / "citycache-metrics-dead"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    port = spawn.free_port()
    environment = {"METRICS_PORT": str(port), "TMPDIR": str(tmp_path)}
    with (
        System(database, broker, tmp_path / "one", **environment) as one,
        System(database, broker, tmp_path / "two", **environment) as two,
    ):
        one.start(["relay"])
        until(lambda: scrape(f"http://127.0.0.1:{port}/metrics"), 20, "the first relay shows metrics")
        two.start(["relay"])
        until(lambda: "no metrics at port" in two.log("relay"), 20, "the second one says that it cannot")
        assert two.runs("relay")
        folders = list(tmp_path.glob("citycache-metrics-*"))
        assert len(folders) == 2
        assert abandoned not in folders
    assert not list(tmp_path.glob("citycache-metrics-*")), "an orderly end removes the folder"
