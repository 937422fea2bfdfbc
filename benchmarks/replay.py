"""Events a second of a replay from the log, beside a bare read of the same stream that decodes nothing."""

from __future__ import annotations

import importlib
import time
from functools import partial

from benchmarks import peer_kombu
from benchmarks.catalog import Size, connect, pile_up, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted, alternate
from benchmarks.pipeline import NotDone, pipeline, run_task
from events import topology

REPLAY, READ = "replay", "bare read"
TASK = "replay_events"
RUN = """
    SELECT extract(epoch FROM finished_at - started_at)
      FROM task_runs WHERE task = %(task)s ORDER BY queued_at DESC LIMIT 1
"""


def figure(bench: Bench) -> Table:
    """Events a second, from batches as a burst leaves them and from lone events as a quiet day does."""
    if not hasattr(importlib.import_module("backend.app.tasks.replay"), TASK):
        return Table("replay", "", [], skipped="replay is not there yet")
    size, events, rounds = Size(bench.pick(1_000_000, 50_000)), bench.pick(200_000, 10_000), bench.pick(3, 1)
    samples: dict[str, list[float]] = {}
    with bench.servers.catalog(size) as dsn:
        for suffix, lone in ((", batches", False), (", lone events", True)):
            with pipeline(bench.servers, dsn, ["worker"]) as started:
                if lone:
                    logged = events
                    peer_kombu.publish_all(bench.servers.broker.url, topology.EVENTS.name, events, size.products)
                    _settle(bench, dsn)
                else:
                    with connect(dsn) as connection:
                        before = started.applied(connection)
                    logged = pile_up(dsn, size, events)
                    started.start("relay")
                    started.drain(before + logged)
                runs = {
                    REPLAY + suffix: partial(_replay, dsn, logged),
                    READ + suffix: partial(_read, bench, logged),
                }
                samples |= alternate(rounds, runs)
    wanted = {REPLAY + ", batches": Wanted(25_000, of="value"), REPLAY + ", lone events": Wanted(0.8)}
    rows = [
        Row(name, found, "events/s", name.replace(REPLAY, READ) if name.startswith(REPLAY) else "", wanted.get(name))
        for name, found in samples.items()
    ]
    return Table(
        "replay", "events a second of a replay", rows, ("The caches are right already: a replay's usual case.",)
    )


def _replay(dsn: str, events: int) -> float:
    with connect(dsn) as connection:
        result = run_task(connection, TASK)
        if result["events"] < events:
            raise NotDone(f"the replay read {result['events']} events of {events}")
        return float(result["events"]) / float(run(connection, RUN, {"task": TASK})[0][0])


def _read(bench: Bench, events: int) -> float:
    return events / peer_kombu.read_stream(bench.servers.broker.url, topology.LOG_NAME, events)


def _settle(bench: Bench, dsn: str) -> None:
    """Wait until the worker has consumed all: no further event is applied."""
    with connect(dsn) as connection:
        last, seen = -1, 0
        while seen != last:
            time.sleep(1)
            last, seen = seen, int(run(connection, "SELECT count(*) FROM task_runs")[0][0])


if __name__ == "__main__":
    main(figure)
