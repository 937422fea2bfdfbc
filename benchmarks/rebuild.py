"""Rebuilding all caches, without drift, with 1 % drift and from empty, beside REFRESH MATERIALIZED VIEW CONCURRENTLY
and delete-and-insert of the same tables: time, WAL, rows written, and the longest that a patch was held up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backend.app import db
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import patch
from benchmarks.catalog import Size, connect, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted
from benchmarks.pipeline import pipeline, run_task
from events.sql_files import statements

SQL: Final = statements(Path(__file__).parent / "sql" / "rebuild.sql")
OURS, VIEWS, TABLES = "citycache", "refresh concurrently", "delete and insert"
KEPT_IN: Final = {
    OURS: ["product_city_mapping", "company_city_mapping", "city_counts", "active_cities_cache"],
    TABLES: ["table_products", "table_companies", "table_counts"],
    VIEWS: ["view_products", "view_companies", "view_counts"],
}
STATES: Final = ("no drift", "1 % drift", "from empty")
PATCH_KEYS: Final = 10
PATCH_EVERY: Final = 0.02  # seconds


WANTED: Final = {"no drift": Wanted(0.25, at_least=False), "from empty": Wanted(1.0, at_least=False)}
NOTHING: Final = Wanted(0, at_least=False, of="value")


@dataclass(frozen=True)
class Run:
    """What one rebuild cost."""

    seconds: float
    wal: float  # MB
    rows: float  # written
    stall: float  # longest patch, ms


def figure(bench: Bench) -> Table:
    """Rebuilds at one or two sizes."""
    rows: list[Row] = []
    for products, rounds in bench.pick(((1_000_000, 3), (10_000_000, 1)), ((50_000, 1),)):
        rows += _at(bench, Size(products), rounds)
    notes = (
        "All caches: mappings, counts, active cities; citycache's through the task refresh_all_caches.",
        "While each of them ran, one small patch after the other was applied; the longest one is shown. A materialized"
        " view cannot be patched: there a change waits for the next refresh.",
        "With drift, citycache waits half a second to tell drift from events still under way.",
    )
    return Table("rebuild", "seconds to rebuild all caches", rows, notes)


def _at(bench: Bench, size: Size, rounds: int) -> list[Row]:
    runs: dict[tuple[str, str], list[Run]] = {}
    with (
        bench.servers.catalog(size) as dsn,
        pipeline(bench.servers, dsn, ["worker"]),
        connect(dsn) as connection,
    ):
        for name in ("views", "tables"):
            run(connection, SQL[name])
        run(connection, "VACUUM (ANALYZE)")
        for number in range(rounds):
            for state in STATES:
                _prepare(connection, state, number)
                for name, way in _ways(connection, state).items():
                    runs.setdefault((state, name), []).append(_measure(dsn, connection, size, name, way))
                    bench.say(f"{size.products:,} products, {state}, {name}: {runs[state, name][-1]}")
    return [row for state in STATES for row in _rows(size, state, {name: runs[state, name] for name in KEPT_IN})]


def _rows(size: Size, state: str, runs: dict[str, list[Run]]) -> list[Row]:
    head = f"{size.products:,}, {state}"
    peer = f"{head}, {TABLES if state == 'from empty' else VIEWS}"
    rows = []
    for name, found in runs.items():
        more = {"WAL MB": max(one.wal for one in found), "rows": max(one.rows for one in found)}
        if name != VIEWS:
            more["stall ms"] = max(one.stall for one in found)
        against = (peer, WANTED.get(state)) if name == OURS else ("", None)
        rows.append(Row(f"{head}, {name}", [one.seconds for one in found], "s", *against, more))
    if state == "no drift":
        rows.append(Row(f"{head}, rows written", [one.rows for one in runs[OURS]], "rows", "", NOTHING))
    return rows


def _prepare(connection: Any, state: str, number: int) -> None:
    """Bring all three sets of tables into the same state."""
    if state == "1 % drift":
        run(connection, SQL["drift"], {"rest": 1 + number % 99})
    if state == "from empty":
        run(connection, SQL["empty"])
        for view in KEPT_IN[VIEWS]:
            run(connection, f"REFRESH MATERIALIZED VIEW {view} WITH NO DATA")


def _ways(connection: Any, state: str) -> dict[str, Callable[[], object]]:
    refresh = SQL["refresh"] if state == "from empty" else SQL["refresh_concurrently"]
    return {
        OURS: lambda: run_task(connection, "refresh_all_caches"),
        VIEWS: lambda: [run(connection, statement) for statement in refresh.split(";")],
        TABLES: lambda: run(connection, SQL["delete_and_insert"]),
    }


def _measure(dsn: str, connection: Any, size: Size, name: str, way: Callable[[], object]) -> Run:
    run(connection, "CHECKPOINT")
    rows, wal = _rows_written(connection, name), run(connection, SQL["wal"])[0][0]
    with _patching(dsn, size, name) as stalls:
        begun = time.monotonic()
        way()
        seconds = time.monotonic() - begun
    wal = run(connection, SQL["wal"])[0][0] - wal
    return Run(seconds, float(wal) / 1e6, _rows_written(connection, name) - rows, max(stalls) * 1000)


def _rows_written(connection: Any, name: str) -> float:
    run(connection, SQL["report"])
    return float(run(connection, SQL["rows_written"], {"tables": KEPT_IN[name]})[0][0])


@contextmanager
def _patching(dsn: str, size: Size, name: str) -> Iterator[list[float]]:
    """Patch a few right keys over and over; yields the seconds that each took. Nothing is written by it."""
    seconds: list[float] = [0.0]
    ended = threading.Event()

    def patches() -> None:
        with connect(dsn) as own:
            while not ended.wait(PATCH_EVERY):
                ids = sorted(random.sample(range(1, size.products + 1), PATCH_KEYS))
                begun = time.monotonic()
                if name == OURS:
                    with db.transaction() as transaction:
                        patch(transaction, Keys(ids), Cause("probe"))
                else:
                    run(own, SQL["patch_table"], {"ids": ids})
                seconds.append(time.monotonic() - begun)

    thread = threading.Thread(target=patches)
    if name != VIEWS:
        thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        if name != VIEWS:
            thread.join()


if __name__ == "__main__":
    main(figure)
