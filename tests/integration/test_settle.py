"""The pipeline has passed a moment when no event of before it is left anywhere, in whatever order they travel."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from backend.app.caches.patch import LOCK_CLASS
from backend.app.tasks.settle import passed
from events.outbox import Row
from events.publisher import Publisher
from tests.acceptance import operating
from tests.conftest import configured_as
from tests.servers import Databases, Vhosts
from tests.waiting import until

HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
NOW = "SELECT clock_timestamp()"


def test_an_older_event_that_waits_behind_a_newer_one_has_not_passed(
    databases: Databases, vhosts: Vhosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with operating.running(databases, vhosts, tmp_path, "worker", EVENT_PREFETCH="1") as (system, plain):
        plain.run("SELECT pg_advisory_lock(%s, 2)", [LOCK_CLASS])  # nobody patches the second product
        moment = plain.one(NOW)
        with closing(Publisher(system.broker)) as publisher:
            publisher.deliver([event(2, plain.one(NOW).isoformat())])
            until(lambda: plain.one(HELD) == 1, 20, "the worker holds the newer event")
            publisher.deliver([event(1, "2026-01-01T00:00:00Z")])

        with configured_as(monkeypatch, DATABASE_URL=system.database, CELERY_BROKER_URL=system.broker):
            assert not passed(moment)
            plain.run("SELECT pg_advisory_unlock_all()")
            until(lambda: passed(moment), 20, "both are applied")


def event(product: int, time: str) -> Row:
    return Row(product, str(uuid4()), "catalog.product.created", f"product/{product}", time, None, None, None)
