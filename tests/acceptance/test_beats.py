"""Beat and its tasks: they do not pile up while no worker is there, and nothing runs twice at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import pytest
from kombu import Connection

from events import topology
from tests import catalogs
from tests.acceptance import operating
from tests.acceptance.operating import right, run_task
from tests.plain import Plain
from tests.servers import Databases, Vhosts
from tests.system import System

TASKS: Final = 4  # in the schedule


class FastSystem(System):
    """Its beats run the fast schedule."""

    def _commands(self) -> Mapping[str, Any]:
        def beat(name: str) -> list[str]:
            command = System._commands(self)["beat"](name)
            return [part.replace("backend.app.celery_app", "tests.acceptance.fast_schedule") for part in command]

        return {**super()._commands(), "beat": beat}


@pytest.fixture(scope="module")
def running(
    databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Plain]]:
    """API, relay and two beats; a catalog whose rebuild takes a moment."""
    place = tmp_path_factory.mktemp("beats")
    with (
        databases.migrated() as database,
        vhosts.fresh() as broker,
        FastSystem(database, broker, place, **operating.QUIET) as system,
        Plain(database) as plain,
    ):
        plain.run("SET session_replication_role = replica")
        catalogs.many(plain, cities=50, companies=2_000, products=60_000)
        plain.run("SET session_replication_role = DEFAULT")
        operating.start(system, "api", "relay", "worker")
        assert run_task(system, "refresh-all-caches", 120)["state"] == "SUCCESS"
        assert operating.violations(plain) == []
        system.stop(["worker"])
        yield system, plain


def queued(system: System) -> int:
    """Messages in the queue of the scheduled tasks."""
    with Connection(system.broker) as connection:
        return int(connection.channel().queue_declare(topology.MAINTENANCE, passive=True).message_count)


def by_state(plain: Plain) -> dict[str, int]:
    """Runs of beat by state, as the API would say them."""
    return dict(
        plain.all("""
            SELECT CASE WHEN state = 'PENDING' AND expires_at < now() THEN 'EXPIRED' ELSE state END, count(*)
              FROM task_runs WHERE trigger = 'beat' GROUP BY 1""")
    )


def test_tasks_do_not_pile_up_while_no_worker_is_there(running: tuple[System, Plain]) -> None:
    system, plain = running
    most = 0

    system.start(["beat", "beat-2"])

    def long_enough() -> bool:
        nonlocal most
        most = max(most, queued(system))
        return by_state(plain).get("EXPIRED", 0) >= 5 * TASKS

    system.wait_until(long_enough, 60, "beat has queued six rounds")
    assert most <= 2 * TASKS, "six rounds were due; the broker may be about to drop one of them"

    expired = set(plain.column("SELECT task_id FROM task_runs WHERE state = 'PENDING' AND expires_at < now()"))
    operating.start(system, "worker", "worker-2")
    system.wait_until(lambda: by_state(plain).get("SUCCESS", 0) > TASKS, 30)
    still = set(plain.column("SELECT task_id FROM task_runs WHERE state = 'PENDING' AND expires_at < now()"))
    assert expired <= still, "what has expired does not run later"


def test_two_beats_take_each_due_instant_once_and_two_workers_run_nothing_twice_at_once(
    running: tuple[System, Plain],
) -> None:
    system, plain = running
    operating.start(system, *(part for part in ("worker", "worker-2", "beat", "beat-2") if not system.runs(part)))
    done = "SELECT count(*) FROM task_runs WHERE trigger = 'beat' AND state = 'SUCCESS'"
    before = plain.one(done)

    for name in ("refresh-all-caches", "update-product-city-cache", "refresh-all-caches"):
        assert run_task(system, name)["state"] in ("SUCCESS", "SKIPPED")
    system.wait_until(lambda: plain.one(done) >= before + 3 * TASKS, 90, "several rounds have run")
    system.stop(["beat", "beat-2"])

    instants = plain.all("SELECT task, scheduled_for FROM task_runs WHERE trigger = 'beat'")
    assert len(instants) == len(set(instants))
    assert "due task" in system.log("beat")
    assert "due task" in system.log("beat-2")
    assert "by another beat" in system.log("beat") + system.log("beat-2")
    assert overlapping(plain) == []
    right(plain)


def overlapping(plain: Plain) -> list[tuple[str, datetime, datetime]]:
    """Pairs of runs of one task that worked at the same time; a run that was skipped did not work."""
    spans: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for task, begin, end in plain.all("""
            SELECT task, started_at, finished_at FROM task_runs
             WHERE state = 'SUCCESS' AND task NOT IN ('apply_catalog_events', 'apply_wide_patches')
             ORDER BY started_at"""):
        spans[task].append((begin, end))
    return [
        (task, one[1], following[0])
        for task, times in spans.items()
        for one, following in pairwise(times)
        if following[0] < one[1]
    ]
