"""Where the time goes: CPU microseconds of each process for one event, while a backlog is drained."""

from __future__ import annotations

from benchmarks import cpu
from benchmarks.catalog import Size, pile_up
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table
from benchmarks.pipeline import pipeline


def figure(bench: Bench) -> Table:
    """CPU microseconds an event."""
    size, events = Size(bench.pick(1_000_000, 50_000)), bench.pick(200_000, 30_000)
    samples: dict[str, list[float]] = {}
    for _ in range(bench.pick(3, 1)):
        with bench.servers.catalog(size) as dsn:
            waiting = pile_up(dsn, size, events)
            with pipeline(bench.servers, dsn, ["worker"]) as started:
                started.start("relay")
                with cpu.spent(bench.servers, started) as seconds:
                    started.drain(waiting)
        for name, spent in seconds.items():
            samples.setdefault(name, []).append(spent * 1e6 / waiting)
        samples.setdefault("all", []).append(sum(seconds.values()) * 1e6 / waiting)
    rows = [Row(name, found, "µs", "" if name == "all" else "all") for name, found in samples.items()]
    rows.sort(key=lambda row: -row.value)
    notes = (
        "CPU time, so other users of the machine disturb it little; CPUs by its sum are the most events a second.",
    )
    return Table("cost", "CPU microseconds an event, draining a backlog", rows, notes)


if __name__ == "__main__":
    main(figure)
