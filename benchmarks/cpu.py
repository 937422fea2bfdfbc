"""CPU time by process, which tells where the time goes even on a machine that others use as well (Linux)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from backend.embedded import spawn
from benchmarks.pipeline import Pipeline
from benchmarks.servers import Servers

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")  # seconds
USER, SYSTEM = 11, 12  # fields of /proc/PID/stat after the command
BACKENDS: Final = "PostgreSQL, backends"
KINDS: Final = {"relay": "relay", "worker": "worker, parent", "child": "worker, children"}


@contextmanager
def spent(servers: Servers, started: Pipeline) -> Iterator[dict[str, float]]:
    """Yields a dictionary that holds, afterwards, the CPU seconds of each kind of process.

    Processes that end in between are not counted.
    """
    before = _all(servers, started)
    found: dict[str, float] = defaultdict(float)
    yield found
    for pid, (kind, now) in _all(servers, started).items():
        found[kind] += now - (before[pid][1] if pid in before else 0.0)


def _all(servers: Servers, started: Pipeline) -> dict[int, tuple[str, float]]:
    kinds = {pid: KINDS[name.partition("-")[0]] for name, pid in started.pids().items()}
    kinds |= dict.fromkeys(_tree(servers.broker.pid), "RabbitMQ")
    kinds |= {pid: _backend(pid) for pid in _tree(servers.postgres.pid)}
    found = {}
    for pid, kind in kinds.items():
        with suppress(OSError):
            found[pid] = (kind, seconds(pid))
    return found


def seconds(pid: int) -> float:
    """CPU seconds of one process since it began, in ticks. Raises OSError when it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return (int(fields[USER]) + int(fields[SYSTEM])) * TICK


def backends(postgres: int | None) -> float:
    """CPU seconds of a server's backends that are there now, finer than in ticks: they have one thread each."""
    pids = [pid for pid in _tree(postgres) if _backend(pid) == BACKENDS]
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def _tree(pid: int | None) -> list[int]:
    return [] if pid is None else [pid, *spawn.descendants(pid)]


def _backend(pid: int) -> str:
    """By what the server writes into a backend's title: `postgres: citycache bench_1 127.0.0.1(43934) idle`."""
    return BACKENDS if "127.0.0.1(" in spawn.command_line(pid) else "PostgreSQL, background"
