"""What a running `citycache up` tells others about itself: a lock and `state.json` in its data folder."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend.embedded import spawn
from backend.embedded.errors import AlreadyRunning, NotRunning
from backend.embedded.secret_file import write_secret


@contextmanager
def owned(data_dir: Path) -> Iterator[None]:
    """Own the folder; AlreadyRunning when another process does. The kernel frees it even after SIGKILL."""
    with (data_dir / "lock").open("a") as lock:
        if not _lock(lock.fileno()):
            raise AlreadyRunning(_who_runs(data_dir))
        try:
            yield
        finally:
            (data_dir / "state.json").unlink(missing_ok=True)


def write_state(data_dir: Path, state: Mapping[str, Any]) -> None:
    """Replace `state.json` as a whole; it holds passwords, so only its owner reads it."""
    processes = state.get("processes", {})
    started = {name: spawn.started_at(pid) for name, pid in processes.items()}
    write_secret(data_dir / "state.json", json.dumps({**state, "owner": os.getpid(), "started_at": started}, indent=1))


def read_state(data_dir: Path) -> dict[str, Any]:
    """`api_url`, `database_url`, `broker_url` and `processes` of the `up` that runs; NotRunning if none."""
    state = _stored(data_dir)
    if not state or not _is_owned(data_dir):
        raise NotRunning(f"citycache does not run on {data_dir}; start it: citycache up --data-dir {data_dir}")
    return {name: state[name] for name in ("api_url", "database_url", "broker_url", "processes")}


def leftovers(data_dir: Path) -> list[int]:
    """Processes that an earlier owner started and that outlived its SIGKILL. Call it as the owner."""
    state = _stored(data_dir)
    started = state.get("started_at", {})
    return [pid for name, pid in state.get("processes", {}).items() if spawn.started_at(pid) == started.get(name)]


def _stored(data_dir: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((data_dir / "state.json").read_text()))
    except (OSError, ValueError):
        return {}


def _is_owned(data_dir: Path) -> bool:
    try:
        with (data_dir / "lock").open("a") as lock:
            return not _try_lock(lock.fileno())
    except OSError:
        return False


def _lock(file: int) -> bool:
    """Wait a moment: who only looks whether someone runs holds the lock as well."""
    deadline = time.monotonic() + 0.5
    while not _try_lock(file):
        if time.monotonic() > deadline:
            return False
        time.sleep(spawn.LOOK_EVERY)
    return True


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _who_runs(data_dir: Path) -> str:
    state = _stored(data_dir)
    place = f" at {state['api_url']} (process {state['owner']})" if state else ""
    return f"citycache already runs on {data_dir}{place}: stop it first, or name another --data-dir"
