"""Runs, however many there are, leave children of the worker to events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from backend.app.worker.starting import runs_at_once
from events.outbox import Row
from events.publisher import Publisher
from tests.acceptance import operating
from tests.acceptance.operating import call
from tests.plain import Plain
from tests.servers import Databases, Vhosts
from tests.system import System
from tests.waiting import until

WAITS = {"DRIFT_GRACE_SECONDS": "60", "WORKER_CONCURRENCY": "3"}
TASKS = ("update-product-city-cache", "update-company-city-cache", "update-cities-product-count", "refresh-all-caches")


@pytest.fixture
def running(databases: Databases, vhosts: Vhosts, tmp_path: Path) -> Iterator[tuple[System, Plain]]:
    """Without a relay, so that rebuilds wait for the events in the outbox."""
    with operating.running(databases, vhosts, tmp_path, "api", "worker", **WAITS) as (system, plain):
        plain.run("""
            INSERT INTO cities (id, name) VALUES (1, 'c');
            INSERT INTO companies (id, name, city_id) VALUES (1, 'c', 1);
            INSERT INTO products (id, name, company_id) VALUES (1, 'p', 1)""")
        yield system, plain


def test_events_are_applied_while_more_rebuilds_wait_for_them_than_there_are_children(
    running: tuple[System, Plain],
) -> None:
    system, plain = running
    runs = [call(system, "POST", f"/celery/tasks/{task}")["task_id"] for task in TASKS]
    until(lambda: plain.one("SELECT count(*) FROM task_runs WHERE state = 'STARTED'") > 0, 20, "a rebuild waits")
    row = Row(1, str(uuid4()), "catalog.company.created", "company/1", "2026-01-01T00:00:00Z", None, None, None)
    with closing(Publisher(system.broker)) as publisher:
        publisher.deliver([row])
    until(lambda: plain.all("SELECT FROM company_city_mapping") != [], 20, "the event is applied")
    assert {call(system, "GET", f"/celery/tasks/{run}")["state"] for run in runs} <= {"PENDING", "STARTED"}


@pytest.mark.parametrize(("children", "runs"), [(8, 6), (3, 1), (2, 1), (1, 1)])
def test_a_child_is_left_to_each_batch_in_flight(children: int, runs: int) -> None:
    assert runs_at_once(children, 2) == runs
