"""How long after its commit a write is visible in the cache: at rest and under load, while caches are rebuilt, while a
large company moves, and while an old snapshot holds back vacuum."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg2.extensions

from benchmarks import load
from benchmarks.catalog import Size, connect, recount, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted, quantiles
from benchmarks.pipeline import Pipeline, pipeline, run_task

RATE: Final = 500  # writes a second of the disturbed cases
GIANT: Final = 1  # the company that moves
STILL: Final = Wanted(20, at_least=False, of="value"), Wanted(100, at_least=False, of="value")
DISTURBED: Final = None, Wanted(250, at_least=False, of="value")
ENDED: Final = "SELECT count(*) FROM task_runs WHERE task = 'apply_wide_patches' AND state = 'SUCCESS'"
BROKEN: Final = """
    UPDATE product_city_mapping SET city_id = 1 + city_id % 500 WHERE product_id % 100 = 3
"""


@dataclass
class Scene:
    """One case under way: its servers, and the writes that go on."""

    bench: Bench
    size: Size
    dsn: str
    started: Pipeline
    connection: psycopg2.extensions.connection


def figure(bench: Bench) -> Table:
    """Milliseconds from commit to visible."""
    rows: list[Row] = []
    size = Size(bench.pick(1_000_000, 50_000))
    with bench.servers.catalog(size) as dsn, pipeline(bench.servers, dsn) as started, connect(dsn) as connection:
        run(connection, load.SQL["prepare"])
        _gather_giant(connection, bench.pick(100_000, 5_000))
        scene = Scene(bench, size, dsn, started, connection)
        started.wait(lambda: run(connection, "SELECT count(*) FROM event_outbox")[0][0] == 0, 60, "the outbox is empty")
        for rate in (50, RATE, 2_000):
            rows += _rows(bench, f"{rate:,} writes/s", _at(scene, rate), STILL if rate == RATE else (None, None))
        for name, case in (
            (f"{RATE} writes/s, rebuild of {size.products:,}", _rebuild),
            (f"{RATE} writes/s, company of {bench.pick(100_000, 5_000):,} moves", _move),
            (f"{RATE} writes/s, snapshot held for {bench.pick(120, 10)} s", _old_snapshot),
        ):
            rows += _rows(bench, name, case(scene), DISTURBED)
    notes = (
        "Both instants are commit timestamps of the database; each write is one transaction on a product of its own.",
    )
    return Table("freshness", "milliseconds from commit to visible in the cache", rows, notes)


def _rows(bench: Bench, name: str, ages: list[float], wanted: tuple[Wanted | None, Wanted | None]) -> list[Row]:
    found = quantiles(ages)
    bench.say(f"{name}: {len(ages)} writes, " + ", ".join(f"{part} {value:.1f} ms" for part, value in found.items()))
    return [
        Row(f"{name}, p50", [found["p50"]], "ms", "", wanted[0], {"p95": found["p95"], "writes": len(ages)}),
        Row(f"{name}, p99", [found["p99"]], "ms", "", wanted[1], {"max": found["max"]}),
    ]


def _gather_giant(connection: psycopg2.extensions.connection, products: int) -> None:
    """One company gets this many products, quietly, with right caches."""
    for sql in (
        "SET session_replication_role = replica",
        f"UPDATE products SET company_id = {GIANT} WHERE id % 10 < 9 AND id <= {products * 10 // 9}",
        "UPDATE product_city_mapping AS mapping SET city_id = truth.city_id, company_id = truth.company_id"
        "  FROM product_city_truth AS truth WHERE truth.product_id = mapping.product_id"
        "   AND (truth.city_id, truth.company_id) <> (mapping.city_id, mapping.company_id)",
        "SET session_replication_role = origin",
        "VACUUM (ANALYZE) products, product_city_mapping",
    ):
        run(connection, sql)
    recount()


@contextmanager
def _writing(scene: Scene, rate: float, seconds: float) -> Iterator[None]:
    writers = load.paced(scene.dsn, scene.size, scene.bench.servers.place, rate, seconds)
    try:
        yield
        load.finish(writers)
    finally:
        writers.kill()


def _now(connection: psycopg2.extensions.connection) -> datetime:
    now: datetime = run(connection, load.SQL["now"])[0][0]
    return now


def _number(connection: psycopg2.extensions.connection) -> int:
    return int(run(connection, load.SQL["written_number"])[0][0])


def _at(scene: Scene, rate: float) -> list[float]:
    first, since = _number(scene.connection), _now(scene.connection)
    with _writing(scene, rate, scene.bench.pick(20, 3)):
        pass
    return _ages(scene, first, since, _now(scene.connection))


def _ages(scene: Scene, first: int, since: datetime, until: datetime) -> list[float]:
    """Ages of the writes from number `first` on, once all of them are applied."""
    connection = scene.connection
    _settled(scene)
    values: dict[str, Any] = {"first": first, "last": _number(connection), "since": since, "until": until}
    ages = [row[0] for row in run(connection, load.SQL["ages"], values | scene.size.as_parameters())]
    if min(ages) < 0:
        raise RuntimeError("a write has not been applied")
    return ages


def _settled(scene: Scene) -> None:
    """The outbox is empty, and a moment later nothing more was applied."""

    def still() -> bool:
        if run(scene.connection, "SELECT count(*) FROM event_outbox")[0][0]:
            return False
        before = scene.started.applied(scene.connection)
        time.sleep(0.5)
        return scene.started.applied(scene.connection) == before

    scene.started.wait(still, 120, "all writes are applied")


def _rebuild(scene: Scene) -> list[float]:
    """The product mapping with 1 % drift is rebuilt while writes go on."""
    run(scene.connection, BROKEN)
    return _while(scene, lambda: run_task(scene.connection, "update_product_city_cache"), scene.bench.pick(20, 4))


def _move(scene: Scene) -> list[float]:
    ended = run(scene.connection, ENDED)[0][0]

    def move() -> None:
        run(scene.connection, f"UPDATE companies SET city_id = 1 + city_id % 500 WHERE id = {GIANT}")
        scene.started.wait(lambda: run(scene.connection, ENDED)[0][0] > ended, 300, "the wide patch ends")

    return _while(scene, move, scene.bench.pick(30, 4))


def _while(scene: Scene, disturb: Callable[[], object], seconds: float) -> list[float]:
    """Ages of the writes committed while `disturb` ran."""
    first = _number(scene.connection)
    with _writing(scene, RATE, seconds):
        time.sleep(1)
        since = _now(scene.connection)
        disturb()
        until = _now(scene.connection)
    scene.bench.say(f"that took {(until - since).total_seconds():.1f} s")
    return _ages(scene, first, since, until)


def _old_snapshot(scene: Scene) -> list[float]:
    seconds = scene.bench.pick(120, 10)
    first, since = _number(scene.connection), _now(scene.connection)
    with connect(scene.dsn, autocommit=False) as idle:
        idle.set_session(isolation_level="REPEATABLE READ", readonly=True)
        run(idle, "SELECT count(*) FROM cities")
        with _writing(scene, RATE, seconds):
            pass
        until = _now(scene.connection)
        return _ages(scene, first, since, until)


if __name__ == "__main__":
    main(figure)
