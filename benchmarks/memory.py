"""Memory of every process while a million events pass: relay, worker, and the worker's children."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.catalog import Size, connect
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted
from benchmarks.pipeline import Pipeline, pipeline
from benchmarks.throughput import writer

WARM: Final = 0.2  # of the events; what was allocated by then is the baseline
Sizes = Mapping[str, float]


def figure(bench: Bench) -> Table:
    """Megabytes after the first fifth and at the end."""
    size, events = Size(bench.pick(1_000_000, 50_000)), bench.pick(1_000_000, 40_000)
    with (
        bench.servers.catalog(size) as dsn,
        pipeline(bench.servers, dsn) as started,
        connect(dsn) as connection,
        writer(dsn, size, lambda: started.applied(connection)),
    ):
        early = _after(started, dsn, events * WARM)
        late = _after(started, dsn, events)
    rows = []
    for name, megabytes in late.items():
        if name in early:
            begin = f"{name}, after {events * WARM:,.0f} events"
            rows.append(Row(begin, [early[name]], "MB"))
            rows.append(Row(f"{name}, after {events:,} events", [megabytes], "MB", begin, Wanted(1.1, at_least=False)))
    notes = ("Proportional set size: pages that processes share count by their share. Idle children are not listed.",)
    return Table("memory", "memory while events pass", rows, notes)


def _after(started: Pipeline, dsn: str, events: float) -> Sizes:
    started.drain(int(events), 1800)
    time.sleep(0.1)
    sizes = {name: pss(pid) for name, pid in started.pids().items()}
    children = sorted((value for name, value in sizes.items() if name.startswith("child")), reverse=True)
    return {
        "relay": sizes["relay"],
        "worker, parent": sizes["worker"],
        "worker, largest child": children[0],
        "all processes": sum(sizes.values()),
    }


def pss(pid: int) -> float:
    """Proportional set size of a process, MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} tells no memory")


if __name__ == "__main__":
    main(figure)
