"""Events a second from commit to patched cache, in a steady stream and draining a backlog, beside three peers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from benchmarks import peer_celery, peer_database, peer_kombu
from benchmarks.catalog import Size, change, connect, pile_up, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted, alternate
from benchmarks.pipeline import pipeline, wrong_rows

DRAIN, STEADY = "backlog", "steady stream"
DRAIN_LIMIT, STEADY_LIMIT = "backlog, database alone", "steady stream, database alone"
KOMBU, TASKS = "bare kombu", "a Celery task an event"
ROWS_A_TRANSACTION: Final = 100  # of the steady stream's writer
MOST_WAITING: Final = 8_000  # events; the writer pauses there, so that it and the pipeline settle at one speed
TRANSACTIONS_A_LOOK: Final = 20  # of the writer, between two looks at how far the pipeline has come
WARM_SECONDS: Final = 2.0
MAKE_WRONG: Final = """
    UPDATE products SET company_id = 1 + company_id %% (SELECT max(id) FROM companies)
     WHERE id IN (SELECT product_id FROM product_city_mapping ORDER BY random() LIMIT %(rows)s) RETURNING id
"""


def figure(bench: Bench) -> Table:
    """Events a second."""
    size = Size(bench.pick(1_000_000, 50_000))
    runs: dict[str, Callable[[], float]] = {
        KOMBU: partial(_kombu, bench, bench.pick(100_000, 10_000)),
        DRAIN: partial(_drained, bench, size, bench.pick(200_000, 30_000)),
        STEADY: partial(steady, bench, size, bench.pick(20.0, 3.0)),
        DRAIN_LIMIT: partial(_drain_limit, bench, size, bench.pick(200_000, 30_000)),
        STEADY_LIMIT: partial(_steady_limit, bench, size, bench.pick(20.0, 3.0)),
        TASKS: partial(_tasks, bench, size, bench.pick(10_000, 500)),
    }
    samples = alternate(bench.pick(3, 1), {name: partial(_told, bench, name, run) for name, run in runs.items()})
    rows = [Row(name, samples[name], "events/s") for name in runs]
    rows += [
        Row(f"{ours} : {peer}", samples[ours], "events/s", peer, wanted)
        for ours, peer, wanted in (
            (STEADY, KOMBU, Wanted(1.0)),
            (STEADY, TASKS, Wanted(20)),
            (STEADY, STEADY_LIMIT, Wanted(0.6)),
            (DRAIN, KOMBU, Wanted(1.0)),
            (DRAIN, DRAIN_LIMIT, Wanted(0.6)),
        )
    ]
    notes = (
        "Every event changes its product's cached row. The steady stream's writer is on the same CPUs.",
        "All caches agreed with the catalog after each run of citycache.",
    )
    return Table("throughput", "events a second from commit to patched cache", rows, notes)


def _told(bench: Bench, name: str, run: Callable[[], float]) -> float:
    result = run()
    bench.say(f"{name}: {result:,.0f} events/s")
    return result


def _drained(bench: Bench, size: Size, events: int) -> float:
    """Events a second of a backlog, from the moment that the relay leads; the caches are proven right afterwards."""
    with bench.servers.catalog(size) as dsn:
        waiting = pile_up(dsn, size, events)
        with pipeline(bench.servers, dsn, ["worker"]) as started:
            started.start("relay")
            seconds = started.drain(waiting)
        _must_agree(dsn)
    return waiting / seconds


def steady(bench: Bench, size: Size, seconds: float, warm: float = WARM_SECONDS) -> float:
    """Events a second of a stream as fast as can be, after `warm` seconds; the caches are proven right afterwards."""
    with bench.servers.catalog(size) as dsn:
        with pipeline(bench.servers, dsn) as started, connect(dsn) as connection:
            with writer(dsn, size, partial(started.applied, connection)) as written:
                time.sleep(warm)
                rate = _rate(partial(started.applied, connection), seconds)
            started.drain(sum(written), 120)
        _must_agree(dsn)
    return rate


def _must_agree(dsn: str) -> None:
    if wrong := wrong_rows():
        raise RuntimeError(f"the caches of {dsn.rpartition('/')[2]} are wrong: {wrong}")


def _rate(count: Callable[[], int], seconds: float) -> float:
    before, begun = count(), time.monotonic()
    time.sleep(seconds)
    return (count() - before) / (time.monotonic() - begun)


def _drain_limit(bench: Bench, size: Size, events: int) -> float:
    with bench.servers.catalog(size) as dsn:
        waiting = pile_up(dsn, size, events)
        begun = time.monotonic()
        peer_database.apply(lambda done: done >= waiting)
        return waiting / (time.monotonic() - begun)


def _steady_limit(bench: Bench, size: Size, seconds: float) -> float:
    applied = [0]
    ended = threading.Event()

    def until(done: int) -> bool:
        applied[0] = done
        return ended.is_set()

    with bench.servers.catalog(size) as dsn:
        peer = threading.Thread(target=peer_database.apply, args=[until])
        with writer(dsn, size, lambda: applied[0]):
            peer.start()
            time.sleep(WARM_SECONDS)
            rate = _rate(lambda: applied[0], seconds)
            ended.set()
            peer.join()
    return rate


def _kombu(bench: Bench, events: int) -> float:
    return events / peer_kombu.seconds(bench.servers.broker.url, events)


def _tasks(bench: Bench, size: Size, events: int) -> float:
    with bench.servers.catalog(size) as dsn:
        with connect(dsn) as connection:
            products = [row[0] for row in run(connection, MAKE_WRONG, {"rows": events})]
        return events / peer_celery.seconds(bench.servers, dsn, products)


@contextmanager
def writer(dsn: str, size: Size, applied: Callable[[], int]) -> Iterator[list[int]]:
    """Writes as fast as the events are applied; yields the growing list of events written a transaction."""
    written: list[int] = []
    ended = threading.Event()
    thread = threading.Thread(target=_write, args=[dsn, size, applied, written, ended.is_set])
    thread.start()
    try:
        yield written
    finally:
        ended.set()
        thread.join()


def _write(dsn: str, size: Size, applied: Callable[[], int], written: list[int], ended: Callable[[], bool]) -> None:
    total = 0
    with connect(dsn) as connection:
        while not ended():
            if total - applied() > MOST_WAITING:
                time.sleep(0.01)
                continue
            for _ in range(TRANSACTIONS_A_LOOK):
                written.append(change(connection, size, ROWS_A_TRANSACTION))
                total += written[-1]


if __name__ == "__main__":
    main(figure)
