"""Beat and its tasks: they do not pile up while no worker is there, and nothing runs twice at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from kombu import Connection

from events import topology
from tests import catalogs
from tests.acceptance import operating
from tests.acceptance.operating import call, right, run_task
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


def test_two_beats_queue_each_due_instant_once(
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
    right(plain)


def test_a_run_beside_another_one_of_its_kind_is_skipped(running: tuple[System, Plain]) -> None:
    system, plain = running
    operating.start(system, *(part for part in ("worker", "worker-2") if not system.runs(part)))
    names = ("update-product-city-cache", "update-company-city-cache", "update-cities-product-count")
    with Plain(system.database, autocommit=False) as blocker:
        blocker.run("LOCK TABLE city_counts IN ACCESS EXCLUSIVE MODE")  # each of them gets so far, no farther
        first = {name: call(system, "POST", f"/celery/tasks/{name}")["task_id"] for name in names}
        system.wait_until(lambda: waiting(plain) == len(names), 30, "the first runs are in the middle of their work")

        second = [run_task(system, name) for name in names]
        refresh = call(system, "POST", "/celery/tasks/refresh-all-caches")["task_id"]
        system.wait_until(lambda: run(system, refresh)["state"] == "SUCCESS", 30, "it finds all parts under way")

        assert [skipped["state"] for skipped in second] == ["SKIPPED"] * 3
        assert second[0]["result"] == {"reason": "Another run of the same kind is under way."}
        assert all("skipped" in part for part in run(system, refresh)["result"]["parts"].values())
        assert [run(system, task_id)["state"] for task_id in first.values()] == ["STARTED"] * 3
    for name, task_id in first.items():
        system.wait_until(lambda task_id=task_id: run(system, task_id)["state"] == "SUCCESS", 30, f"{name} ends")  # type: ignore[misc]
    right(plain)


def waiting(plain: Plain) -> int:
    """Sessions that wait for the table, or for the recount that does."""
    here = "SELECT oid FROM pg_database WHERE datname = current_database()"
    return int(plain.one(f"SELECT count(*) FROM pg_locks WHERE NOT granted AND database = ({here})"))


def run(system: System, task_id: str) -> dict[str, Any]:
    """One run, as the API says it."""
    return dict(call(system, "GET", f"/celery/tasks/{task_id}"))
