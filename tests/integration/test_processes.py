"""The supervisor: what dies starts again, what is asked to stop stops, and nothing outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.embedded import spawn
from backend.embedded import supervisor as supervising
from backend.embedded.supervisor import Child, StopRequested, Supervisor, stop_signals
from tests.servers import ROOT
from tests.waiting import until

WAITS = "import signal; print('ready', flush=True); signal.pause()"
IS_DEAF = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
HAS_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITS!r}])"


@pytest.fixture
def shown() -> list[str]:
    return []


@pytest.fixture
def supervisor(shown: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(show=shown.append)
    yield supervisor
    supervisor.stop(hurry=lambda: True)


def child(place: Path, code: str, name: str = "part", restarts: bool = True) -> Child:
    return Child(name, [sys.executable, "-c", code], log=place / "logs" / f"{name}.log", restarts=restarts)


def is_ready(part: Child) -> bool:
    return part.log.exists() and "ready" in part.log.read_text()


def tend(supervisor: Supervisor, predicate: Callable[[], bool], seconds: float = 10) -> None:
    def tended() -> bool:
        supervisor.run_once()
        return predicate()

    until(tended, seconds)


def test_starts_a_killed_child_again(supervisor: Supervisor, shown: list[str], tmp_path: Path):
    supervisor.start(child(tmp_path, WAITS))
    first = supervisor.pids()["part"]
    os.kill(first, signal.SIGKILL)
    tend(supervisor, lambda: supervisor.pids().get("part", first) != first)
    assert shown == ["part ended; it starts again in 0.5 s"]


def test_waits_longer_after_each_early_death(
    supervisor: Supervisor, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervising, "FIRST_PAUSE", 0.01)
    supervisor.start(child(tmp_path, "pass"))
    supervisor._watches[0].pause = 0.01
    tend(supervisor, lambda: len(shown) >= 3)
    assert [line.split()[-2] for line in shown[:3]] == ["0.01", "0.02", "0.04"]


def test_keeps_the_children_of_a_killed_child_from_staying(supervisor: Supervisor, tmp_path: Path):
    supervisor.start(child(tmp_path, HAS_A_CHILD))
    first = supervisor.pids()["part"]
    tend(supervisor, lambda: bool(spawn.descendants(first)))
    grandchildren = spawn.descendants(first)
    os.kill(first, signal.SIGKILL)
    tend(supervisor, lambda: supervisor.pids().get("part", first) != first)
    assert spawn.wait_until_gone(grandchildren, 5)


def test_lets_a_child_end_whose_work_is_done(supervisor: Supervisor, shown: list[str], tmp_path: Path):
    supervisor.start(child(tmp_path, "pass", restarts=False))
    tend(supervisor, lambda: not supervisor._watches)
    assert shown == []


def test_says_when_a_child_failed_that_is_not_started_again(supervisor: Supervisor, shown: list[str], tmp_path: Path):
    supervisor.start(child(tmp_path, "raise SystemExit(3)", restarts=False))
    tend(supervisor, lambda: len(shown) == 1)
    assert shown == [f"part failed; see {tmp_path}/logs/part.log"]


def test_tells_of_each_start_and_end(tmp_path: Path):
    changes: list[dict[str, int]] = []
    supervisor = Supervisor(on_change=lambda: changes.append(supervisor.pids()), show=lambda _: None)
    supervisor.start(child(tmp_path, WAITS))
    os.kill(supervisor.pids()["part"], signal.SIGKILL)
    tend(supervisor, lambda: len(changes) == 3)
    supervisor.stop()
    assert [sorted(pids) for pids in changes] == [["part"], [], ["part"]]


def test_shows_only_warnings_and_errors(supervisor: Supervisor, shown: list[str], tmp_path: Path):
    lines = "INFO fine\\nWARNING beware\\nERROR help\\nWARNING_NOT one"
    supervisor.start(child(tmp_path, f"print('{lines}', flush=True)", restarts=False))
    tend(supervisor, lambda: len(shown) == 2)
    assert shown == ["part | WARNING beware", "part | ERROR help"]


def test_lets_all_children_end_in_their_own_way(tmp_path: Path):
    code = (
        "import signal, sys\n"
        "def end(*_): print('ended well', flush=True); sys.exit()\n"
        "signal.signal(15, end); print('ready', flush=True); signal.pause()"
    )
    supervisor = Supervisor(show=lambda _: None)
    parts = [child(tmp_path, code, name) for name in ("one", "two")]
    for part in parts:
        supervisor.start(part)
    tend(supervisor, lambda: all(is_ready(part) for part in parts))
    supervisor.stop()
    assert [part.log.read_text().split("\n")[-2] for part in parts] == ["ended well", "ended well"]
    assert supervisor.pids() == {}


def test_kills_a_child_that_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervising, "PATIENCE", 0.2)
    supervisor = Supervisor(show=lambda _: None)
    deaf = child(tmp_path, IS_DEAF)
    supervisor.start(deaf)
    tend(supervisor, lambda: is_ready(deaf))
    pid = deaf.pid
    supervisor.stop()
    assert pid is not None
    assert not spawn.is_running(pid)


def test_the_first_signal_asks_to_stop_and_a_second_one_to_hurry():
    with stop_signals() as hurry:
        with pytest.raises(StopRequested):
            signal.raise_signal(signal.SIGTERM)
        assert not hurry()
        signal.raise_signal(signal.SIGINT)
        assert hurry()


def test_children_end_when_their_owner_is_killed(tmp_path: Path):
    code = (
        "import os, sys, pathlib\n"
        "from tests.waiting import until\n"
        "from backend.embedded.supervisor import Child, Supervisor\n"
        f"part = Child('part', [sys.executable, '-c', {WAITS!r}], log=pathlib.Path(sys.argv[1]) / 'log')\n"
        "Supervisor().start(part)\n"
        "until(lambda: 'ready' in part.log.read_text())\n"
        "print(part.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert spawn.wait_until_gone([int(done.stdout)], 5)
