"""Alive is not working: who cannot go on ends, and is started again; who only waits does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from celery import Celery

from backend.app.health import watchdog
from backend.embedded import spawn
from backend.embedded.supervisor import Child, Supervisor
from events import topology
from tests.faults.plant import QUIET, Plant
from tests.faults.proxy import Proxy
from tests.servers import ROOT, Vhosts
from tests.waiting import until

STILL_SECONDS = 3
WAITING_SECONDS = 20  # more than an attempt to reach a server and the pause after it
FAULTY = "tests.hostile.faulty_worker"


class Faulty(Plant):
    """Its worker has a fault when a test wants it."""

    def fault(self, what: str) -> None:
        """From now on."""
        Path(self.environment["FAULT_FILE"]).write_text(what)

    def _commands(self) -> Mapping[str, Callable[[str], list[str]]]:
        commands = dict(super()._commands())
        plain = commands["worker"]
        commands["worker"] = lambda name: [FAULTY if part == "backend.app.celery_app" else part for part in plain(name)]
        return commands


@pytest.fixture
def plant(database: str, broker: str, tmp_path: Path) -> Iterator[Faulty]:
    with faulty(database, broker, tmp_path) as plant:
        yield plant


@contextmanager
def faulty(database: str, broker: str, place: Path, seconds: int = STILL_SECONDS) -> Iterator[Faulty]:
    """Relay and worker run, and may stand still for so long."""
    limits = {"FAULT_FILE": str(place / "fault"), "WATCHDOG_SECONDS": str(seconds)}
    with Faulty(database, broker, place, **limits, **QUIET) as plant:
        plant.started(["relay", "worker"])
        yield plant


def end(plant: Faulty, seconds: float) -> int:
    """The exit code of the worker, whose children end with it; AssertionError when it takes longer."""
    process, children = plant.process("worker"), plant.children("worker")
    until(lambda: process.poll() is not None, seconds, f"the worker ends\n{plant.log('worker')[-3000:]}")
    assert children
    assert spawn.wait_until_gone(children, 2), "children end with their process"
    return int(process.returncode)


def test_a_worker_that_cannot_go_on_ends_within_ten_seconds_whatever_its_children_do(plant: Faulty):
    with plant.sql() as sql:
        sql.connection.autocommit = False
        sql.run("LOCK TABLE product_city_mapping IN ACCESS EXCLUSIVE MODE")
        app = Celery(broker=plant.broker, set_as_current=False)
        routed = {"exchange": topology.MAINTENANCE, "routing_key": topology.MAINTENANCE}
        run = app.send_task("update_product_city_cache", **routed)
        app.close()
        with plant.sql() as other:
            state = "SELECT EXISTS (SELECT FROM task_runs WHERE task_id = %s::uuid AND state = 'STARTED')"
            plant.wait_until(lambda: other.one(state, [run.id]), 20, "the run begins")
        plant.fault("raise")
        assert end(plant, 10) not in (0, None)
        assert "Unrecoverable error" in plant.log("worker")


def test_a_worker_whose_loop_hangs_ends_and_says_where(plant: Faulty):
    plant.fault("wedge")
    assert end(plant, STILL_SECONDS + 10) == watchdog.EXIT_CODE
    assert "the worker stands still for" in plant.log("worker")
    assert "faulty_worker.py" in plant.log("worker")


def test_who_was_suspended_is_not_ended_when_it_wakes(plant: Faulty):
    pids = {name: plant.pid(name) for name in ("relay", "worker")}
    for name in pids:
        plant.suspend(name)
    threading.Event().wait(STILL_SECONDS + watchdog.LATE_SECONDS + 3)
    for name in pids:
        plant.resume(name)
    assert_works(plant, pids)


def test_who_waits_for_the_broker_is_not_ended(database: str, broker: str, vhosts: Vhosts, tmp_path: Path):
    with ExitStack() as parts:
        with Proxy(vhosts.node.port) as proxy:
            plant = parts.enter_context(faulty(database, proxy.url(broker), tmp_path, WAITING_SECONDS))
        threading.Event().wait(1.2 * WAITING_SECONDS)
        assert plant.runs("relay")
        assert plant.runs("worker")
        assert "Cannot connect to amqp" in plant.log("worker")


def assert_works(plant: Faulty, pids: Mapping[str, int]) -> None:
    with plant.sql() as sql:
        sql.run("INSERT INTO companies (name, city_id) SELECT 'c', min(id) FROM cities")
    plant.drain()
    assert {name: plant.pid(name) for name in pids if plant.runs(name)} == pids


def test_processor_time_ends_who_lets_no_thread_run(tmp_path: Path):
    hog = (
        "import re; from backend.app.health import watchdog;"
        "watchdog.watch('hog', 0.5); re.fullmatch('(a+)+', 'a' * 60 + 'b')"
    )
    done = subprocess.run(
        [sys.executable, "-c", hog], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGPROF
    assert "fullmatch" in done.stderr


@pytest.mark.parametrize("how", ["hangs", "is suspended"])
def test_the_supervisor_starts_a_child_again_whose_mark_stands_still(tmp_path: Path, how: str):
    mark, shown = tmp_path / "mark", list[str]()
    work = (
        "import pathlib, time; [(pathlib.Path(MARK).touch(), time.sleep(0.05)) for _ in range(TIMES)]; time.sleep(99)"
    )
    times = 10 if how == "hangs" else 10_000
    child = Child("child", [sys.executable, "-c", work.replace("MARK", repr(str(mark))).replace("TIMES", str(times))],
                  tmp_path / "log", mark=mark)  # fmt: skip
    supervisor = Supervisor(show=shown.append, still_seconds=1.0)
    supervisor.start(child)
    first = child.pid
    assert first is not None

    def is_another() -> bool:
        supervisor.run_once()
        return child.pid not in (None, first)

    try:
        until(mark.exists, 10)
        supervisor.run_once()
        if how == "is suspended":
            os.kill(first, signal.SIGSTOP)
        until(is_another, 15, "it is started again")
        assert any("stands still" in line for line in shown)
    finally:
        supervisor.stop(hurry=lambda: True)
