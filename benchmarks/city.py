"""A city with a million products of 100,000 companies stops existing in an adopted marketplace, and comes back: how
long that takes, how old other writes become meanwhile, and what the processes hold."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg2.extensions

from backend.embedded.supervisor import program
from benchmarks import load
from benchmarks.catalog import Size, connect, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted, quantiles
from benchmarks.memory import pss
from benchmarks.pipeline import NotDone, Pipeline, pipeline
from events.sql_files import statements

SQL: Final = statements(Path(__file__).parent / "sql" / "city.sql")
RATE: Final = 500  # writes a second beside
OTHERS: Final = 500  # cities; the large one comes after them
LARGE: Final = OTHERS + 1
BEFORE_SECONDS: Final = 5.0
PATIENCE: Final = 600.0
AGE: Final = Wanted(250, at_least=False, of="value")
BOUNDED: Final = Wanted(1.5, at_least=False)  # of the usual, as the hostile campaign bounds it
DEFINITION: Final = """
schema = "citycache"
[city]
table = "market.cities"
id = "id"
name = "name"
exists = "is_active"
[company]
table = "market.companies"
id = "id"
name = "name"
city = "city_id"
[product]
table = "market.products"
id = "id"
name = "name"
company = "company_id"
kind = "kind"
active = "is_active"
"""


@dataclass(frozen=True)
class Market:
    """How large the marketplace is: its large city, and what is written meanwhile."""

    companies: int
    products: int
    others: Size


@dataclass
class Held:
    """The most memory that each process held, MB."""

    of: dict[str, float] = field(default_factory=dict)

    def look(self, started: Pipeline) -> None:
        """Look once."""
        for name, pid in started.pids().items():
            kind = name.partition("-")[0]
            try:
                self.of[kind] = max(self.of.get(kind, 0.0), pss(pid))
            except OSError:  # it has just ended
                continue


def figure(bench: Bench) -> Table:
    """Milliseconds of the others' writes, seconds of the change, megabytes."""
    market = Market(bench.pick(100_000, 5_000), bench.pick(1_000_000, 50_000), Size(bench.pick(100_000, 20_000)))
    rows: list[Row] = []
    with bench.servers.database() as dsn, _adopted(bench, dsn, market):
        theirs = f"{dsn}?options=-csearch_path%3Dmarket,citycache"
        with pipeline(bench.servers, dsn) as started, connect(theirs) as connection:
            run(connection, load.SQL["prepare"])
            scene = _Scene(bench, theirs, market, started, connection)
            usual = _usual(scene)
            for name, is_active in (("stops existing", False), ("comes back", True)):
                rows += _change(scene, usual, name, is_active)
        subprocess.run([program("citycache"), "verify", "--wait", "30"], check=True, capture_output=True)
    notes = (
        f"One UPDATE of one row; {RATE} writes a second in other cities beside. `citycache verify` agreed afterwards.",
        "Memory: proportional set sizes, the most of a process beside the most of five seconds of those writes alone.",
    )
    title = f"a city of {market.products:,} products and {market.companies:,} companies is no more, and is again"
    return Table("city", title, rows, notes)


@dataclass(frozen=True)
class _Scene:
    bench: Bench
    dsn: str
    market: Market
    started: Pipeline
    connection: psycopg2.extensions.connection


@contextmanager
def _adopted(bench: Bench, dsn: str, market: Market) -> Iterator[None]:
    """The marketplace's tables, with the caches beside them."""
    parameters = {
        "cities": OTHERS,
        "large": LARGE,
        "companies": market.others.companies,
        "products": market.others.products,
        "large_companies": market.companies,
        "large_products": market.products,
    }
    with connect(dsn) as connection:
        for name in ("tables", "rows", "analyze"):
            run(connection, SQL[name], parameters if "%(" in SQL[name] else None)
    definition = bench.servers.place / "catalog.toml"
    definition.write_text(DEFINITION, encoding="utf-8")
    os.environ["CATALOG_FILE"] = str(definition)
    try:
        bench.say("the marketplace is filled")
        subprocess.run([program("citycache"), "adopt", "--apply"], check=True, capture_output=True)
        bench.say("it is adopted")
        yield
    finally:
        del os.environ["CATALOG_FILE"]


def _usual(scene: _Scene) -> Held:
    with _writing(scene), _watched(scene.started) as held:
        time.sleep(BEFORE_SECONDS)
    return held


def _writing(scene: _Scene) -> AbstractContextManager[None]:
    return load.going_on(scene.dsn, scene.market.others, scene.bench.servers.place, RATE)


@contextmanager
def _watched(started: Pipeline) -> Iterator[Held]:
    held, over = Held(), threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            held.look(started)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()


def _change(scene: _Scene, usual: Held, name: str, is_active: bool) -> list[Row]:
    """The city changes while others write."""
    connection = scene.connection
    first = int(run(connection, load.SQL["written_number"])[0][0])
    with _writing(scene):
        time.sleep(1)
        since = run(connection, load.SQL["now"])[0][0]
        with _watched(scene.started) as held:
            run(connection, SQL["change"], {"city": LARGE, "is_active": is_active})
            wanted = scene.market.products if is_active else 0
            _until(lambda: run(connection, SQL["cached"], {"city": LARGE})[0][0] == wanted, f"the city {name}")
        until = run(connection, load.SQL["now"])[0][0]
    seconds = (until - since).total_seconds()
    ages = _ages(scene, first, since, until)
    found = quantiles(ages)
    scene.bench.say(f"{name}: {seconds:.1f} s, {len(ages)} writes, p50 {found['p50']:.0f}, p99 {found['p99']:.0f} ms")
    rows = [
        Row(f"{name}", [seconds], "s"),
        Row(f"{name}, others' writes, p50", [found["p50"]], "ms", more={"writes": len(ages)}),
        Row(f"{name}, others' writes, p99", [found["p99"]], "ms", "", AGE, {"max": found["max"]}),
    ]
    for kind, megabytes in held.of.items():
        rows.append(Row(f"{kind} as usual, before it {name}", [usual.of[kind]], "MB"))
        rows.append(Row(f"{kind} while it {name}", [megabytes], "MB", rows[-1].what, BOUNDED))
    return rows


def _ages(scene: _Scene, first: int, since: Any, until: Any) -> list[float]:
    connection = scene.connection
    _until(lambda: run(connection, "SELECT count(*) FROM event_outbox")[0][0] == 0, "the outbox is empty")
    time.sleep(1)  # and what was in the queue is applied
    last = int(run(connection, load.SQL["written_number"])[0][0])
    values = {"first": first, "last": last, "since": since, "until": until}
    ages = [row[0] for row in run(connection, load.SQL["ages"], values | scene.market.others.as_parameters())]
    if min(ages) < 0:
        raise NotDone("a write has not been applied")
    return ages


def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise NotDone(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.25)


if __name__ == "__main__":
    main(figure)
