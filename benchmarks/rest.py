"""What everything costs while nothing happens: `citycache up` with the real feed in it, CPU and memory of each part
over a quiet minute. Canaries fly, the auditor compares, health is judged: all that runs at night runs."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from backend.embedded import spawn
from backend.embedded.supervisor import program
from benchmarks import cpu, memory
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted

FEED: Final = Path(__file__).parent.parent / "tests" / "data" / "techconf" / "changes.jsonl.gz"
OURS: Final = ("api", "relay", "worker", "beat", "up")
SERVERS: Final = ("postgres", "rabbitmq")
PATIENCE: Final = 120.0
Parts = Mapping[str, list[int]]  # process ids


def figure(bench: Bench) -> Table:
    """Percent of a core, and megabytes (proportional set size)."""
    settle, seconds = bench.pick((60.0, 60.0), (10.0, 8.0))
    with tempfile.TemporaryDirectory(prefix="citycache-rest-", ignore_cleanup_errors=True) as name, _up(name) as state:
        _import(state, Path(name))
        time.sleep(settle)
        parts = _parts(state)
        before, begun = _sum(parts, cpu.seconds), time.monotonic()
        time.sleep(seconds)
        after, took = _sum(parts, cpu.seconds), time.monotonic() - begun
        sizes = _sum(parts, memory.pss)
    share = {name: 100 * (after[name] - before[name]) / took for name in parts}
    rows = [*_rows("CPU", share, "% of a core", 1.5, 3.0), *_rows("memory", sizes, "MB", 250, None)]
    told = f"{', '.join(OURS)} with its fork server"
    notes = (f"Over {took:.0f} s, the real feed of 22,399 lines in the caches; ours: {told}.",)
    return Table("rest", "everything at rest", rows, notes)


def _rows(what: str, by: Mapping[str, float], unit: str, ours: float, all_of_it: float | None) -> Iterator[Row]:
    for name, value in by.items():
        yield Row(f"{what}, {name}", [value], unit)
    yield Row(f"{what}, ours", [sum(by[name] for name in OURS)], unit, "", Wanted(ours, False, "value"))
    wanted = None if all_of_it is None else Wanted(all_of_it, False, "value")
    yield Row(f"{what}, with both servers", [sum(by.values())], unit, "", wanted)


def _parts(state: Mapping[str, Any]) -> Parts:
    pids: dict[str, int] = state["processes"]
    found = {name: [pids[name], *spawn.descendants(pids[name])] for name in (*OURS[:-1], *SERVERS)}
    return found | {"up": [state["up"], pids["forkserver"]]}


def _sum(parts: Parts, of: Callable[[int], float]) -> dict[str, float]:
    return {name: sum(map(of, pids)) for name, pids in parts.items()}


@contextmanager
def _up(folder: str) -> Iterator[dict[str, Any]]:
    """The state of a started one."""
    data, log = Path(folder, "data"), Path(folder, "up.log")
    command = [program("citycache"), "up", "--data-dir", str(data), "--port", str(spawn.free_port())]
    process = spawn.spawn(command, log=log, env=dict(os.environ), cwd=Path(folder))
    try:
        yield {**_state(data, log), "up": process.pid}
    finally:
        spawn.end(process, signal.SIGTERM, 60)


def _state(data: Path, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        command = [program("citycache"), "status", "--json", "--data-dir", str(data)]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.returncode == 0:
            state: dict[str, Any] = json.loads(told.stdout)
            if state.get("health"):
                return state
        time.sleep(0.5)
    raise RuntimeError(f"up did not start: {spawn.tail(log, 20)}")


def _import(state: Mapping[str, Any], folder: Path) -> None:
    lines = folder / "feed.jsonl"
    lines.write_bytes(gzip.decompress(FEED.read_bytes()))
    environment = {**os.environ, "DATABASE_URL": state["database_url"], "CELERY_BROKER_URL": state["broker_url"]}
    for arguments in (["import", str(lines)], ["verify", "--wait", "60"]):
        subprocess.run(
            [program("citycache"), *arguments], env=environment, capture_output=True, check=True, timeout=300
        )


if __name__ == "__main__":
    main(figure)
