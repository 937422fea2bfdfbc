"""Reads over HTTP with 8 connections, beside an empty FastAPI route, a live JOIN, and that JOIN kept for a minute (in
the process, and in Redis where there is one), all under the same uvicorn; at rest and beside 500 writes a second. How
old an answer is, and what CPU it takes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import httpx2
import psycopg2.extensions

from backend.embedded import spawn
from backend.embedded.supervisor import Child, program
from benchmarks import cpu, http_load, load, peer_reads
from benchmarks.catalog import Size, connect, run
from benchmarks.figure import Bench, main
from benchmarks.http_load import Load
from benchmarks.measure import Row, Table, Wanted, alternate, quantiles
from benchmarks.peer_reads import REDIS_PORT
from benchmarks.pipeline import ALL, Pipeline, pipeline

RATE: Final = 500  # writes a second
V1: Final = "/api/v1"
EMPTY, JOIN, KEPT, REDIS = "empty route", "live JOIN", "JOIN kept 60 s", "JOIN in Redis 60 s"
PEERS: Final = {EMPTY: ["/empty"], JOIN: ["/join"], KEPT: ["/kept"], REDIS: ["/redis"]}
SORTED, EACH = "cities by products", "each city"
OURS: Final[
    dict[str, tuple[str, float | None, float | None]]
] = {  # paths, and what is wanted of them beside the empty route: at rest, beside writes
    SORTED: (f"{V1}/cities?sort=-products_count&limit=50", 0.9, 0.5),
    "active cities": (f"{V1}/caches/active-cities/products", 0.9, 0.5),
    "one city": (f"{V1}/cities/1", 0.9, 0.5),
    "tree of cities": (f"{V1}/cities/tree", 0.9, 0.5),
    "products of a city": (f"{V1}/cities/1/products?limit=50", 0.4, None),
}
EACH_CITY: Final = [f"{V1}/cities/{number}" for number in range(1, 401)]
REDIS_SERVER: Final = "redis-server"
BESIDE: Final = ", beside writes"
MANY_CITIES: Final = 5_000
WANTED_OF_MANY: Final = Wanted(20, at_least=False, of="value")
CHANGED: Final = {  # just before the answer
    "a count moved": "UPDATE city_counts SET products_count = products_count + 1 WHERE city_id = 1",
    "one renamed": "UPDATE cities SET name = name || '.' WHERE id = 1",
}
MANY_PRODUCTS: Final = 1_000_000
OWN_CITY, OWN_COMPANY = 1_000_000, 1_000_000  # that the writers beside never touch
AGED: Final = f"""
INSERT INTO cities (id, name) VALUES ({OWN_CITY}, 'read');
INSERT INTO companies (id, name, city_id) VALUES ({OWN_COMPANY}, 'read', {OWN_CITY})"""
MORE_CITIES: Final = "INSERT INTO cities (id, name) SELECT 2000 + n, 'c' FROM generate_series(1, %(more)s) AS n"
NEW: Final = f"INSERT INTO products (company_id, name) VALUES ({OWN_COMPANY}, 'read')"


@dataclass
class Stage:
    """The API of a pipeline, and the peers."""

    started: Pipeline
    peers: int  # port
    seconds: float
    loads: dict[str, list[Load]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)  # microseconds of the API's process for an answer

    def rate(self, what: str, beside: str = "") -> float:
        """Answers a second for one of the paths; `beside` is what its name in the table has more."""
        name = what + beside
        paths = (PEERS | {EACH: EACH_CITY}).get(what)
        port = self.peers if what in PEERS else self.started.api_port
        if what in (KEPT, REDIS):
            http_load.read(port, paths or [], 0, connections=1)  # so that it is kept
        before = cpu.seconds(self.started.pids()["api"])
        found = http_load.read(port, paths or [OURS[what][0]], self.seconds)
        spent = cpu.seconds(self.started.pids()["api"]) - before
        self.loads.setdefault(name, []).append(found)
        self.cpu.setdefault(name, []).append(1e6 * spent / (found.rate * self.seconds))
        return found.rate


def figure(bench: Bench) -> Table:
    """Answers a second, milliseconds, microseconds of CPU."""
    rows: list[Row] = []
    for products in bench.pick((MANY_PRODUCTS, 100_000, 10_000, 1_000), (20_000,)):
        rows += _of_size(bench, Size(products), is_main=not rows)
    notes = (
        "8 connections, each asking as soon as it has its answer, one uvicorn process; all on the same two CPUs.",
        "Every answer shows all that was committed before it was asked; the kept JOIN's are up to a minute old.",
        "Redis is asked in its own protocol, by a connection for each request under way."
        if shutil.which(REDIS_SERVER)
        else f"Redis is left out: there is no {REDIS_SERVER} on this machine.",
    )
    return Table("reads", "reads over HTTP", rows, notes)


def _of_size(bench: Bench, size: Size, is_main: bool) -> Iterator[Row]:
    rounds, seconds = bench.pick((3, 4.0), (1, 1.0))
    with (
        bench.servers.catalog(size) as dsn,
        pipeline(bench.servers, dsn, (*ALL, "api")) as started,
        peers(bench, dsn) as ports,
        connect(dsn) as connection,
    ):
        stage = Stage(started, ports, seconds)
        if not is_main:
            yield from _beside_join(stage, rounds, size)
            return
        samples = alternate(rounds, {name: partial(stage.rate, name) for name in (EMPTY, *OURS, EACH, *_kept())})
        run(connection, load.SQL["prepare"])
        with load.going_on(dsn, size, bench.servers.place, RATE):
            busy = {name + BESIDE: partial(stage.rate, name, BESIDE) for name in (EMPTY, *OURS, EACH)}
            samples |= alternate(rounds, busy)
            ages = _ages(started, connection, bench.pick(300, 40))
        yield from _rows(stage, samples)
        yield Row("commit to answer, p50", [ages["p50"]], "ms", "", Wanted(25, at_least=False, of="value"))
        yield Row("commit to answer, p99", [ages["p99"]], "ms", "", Wanted(80, at_least=False, of="value"))
        yield from _beside_join(stage, rounds, size)
        yield from _many_cities(started, connection)


def row(stage: Stage, samples: dict[str, list[float]], name: str, beside: str) -> Row:
    """One of the samples; `beside` is what its name has more."""
    what, found = name.removesuffix(beside), samples[name]
    _, at_rest, busy = OURS.get(what, ("", None, None))
    bound = busy if beside else at_rest
    last = stage.loads[name][-1]
    more = {"p50 ms": last.p50, "p99 ms": last.p99}
    if what not in PEERS:
        more["CPU µs"] = sorted(stage.cpu[name])[len(found) // 2]
    against = "" if what == EMPTY else EMPTY + beside
    return Row(name, found, "answers/s", against, Wanted(bound) if bound else None, more)


def _rows(stage: Stage, samples: dict[str, list[float]]) -> Iterator[Row]:
    for name in samples:
        yield row(stage, samples, name, BESIDE if name.endswith(BESIDE) else "")
    for kept in _kept():
        yield Row(f"{SORTED} : {kept}", samples[SORTED], "answers/s", kept, Wanted(0.9))


def _kept() -> tuple[str, ...]:
    """Where a JOIN can be kept on this machine."""
    return (KEPT, REDIS) if shutil.which(REDIS_SERVER) else (KEPT,)


def _beside_join(stage: Stage, rounds: int, size: Size) -> Iterator[Row]:
    of_size = f", {size.products:,} products"
    samples = alternate(rounds, {name: partial(stage.rate, name, of_size) for name in (SORTED, JOIN)})
    yield Row(JOIN + of_size, samples[JOIN], "answers/s", more={"p50 ms": stage.loads[JOIN + of_size][-1].p50})
    wanted = Wanted(100) if size.products == MANY_PRODUCTS else None
    yield Row(f"{SORTED} : {JOIN}{of_size}", samples[SORTED], "answers/s", JOIN + of_size, wanted)


def _ages(started: Pipeline, connection: psycopg2.extensions.connection, number: int) -> dict[str, float]:
    """Milliseconds from the return of a commit to the return of the first answer that shows it, by quantile."""
    for statement in AGED.split(";"):
        run(connection, statement)
    ages = []
    with httpx2.Client(base_url=started.api_url, timeout=10) as api:
        started.wait(lambda: api.get(f"{V1}/cities/{OWN_CITY}").json()["companies_count"] == 1, 30, "the city is there")
        for count in range(1, number + 1):
            run(connection, NEW)
            committed = time.perf_counter()
            while api.get(f"{V1}/cities/{OWN_CITY}").json()["products_count"] < count:
                if time.perf_counter() > committed + 10:
                    raise RuntimeError("a write was not shown within 10 s")
                time.sleep(0.001)  # the two CPUs are also those that bring the write into the cache
            ages.append((time.perf_counter() - committed) * 1000)
            time.sleep(0.01)
    return quantiles(ages)


def _many_cities(started: Pipeline, connection: psycopg2.extensions.connection) -> Iterator[Row]:
    run(connection, MORE_CITIES, {"more": MANY_CITIES})
    with httpx2.Client(base_url=started.api_url, timeout=10) as api:
        for when, statement in CHANGED.items():
            found = []
            for _ in range(10):
                run(connection, statement)
                begun = time.perf_counter()
                answer = api.get(f"{V1}/cities/tree", params={"all": "true"})
                found.append((time.perf_counter() - begun) * 1000)
                if len(answer.raise_for_status().json()) < MANY_CITIES:
                    raise RuntimeError("cities are missing")
            yield Row(f"{MANY_CITIES:,} cities as one answer, {when}", found, "ms", "", WANTED_OF_MANY)


@contextmanager
def peers(bench: Bench, dsn: str, join: str = peer_reads.JOIN) -> Iterator[int]:
    """The peers' application, with this JOIN; its port."""
    port, redis_port = spawn.free_port(), spawn.free_port()
    environment = {**os.environ, "DATABASE_URL": dsn, REDIS_PORT: str(redis_port), peer_reads.LIVE_JOIN: join}
    served = [program("uvicorn"), "benchmarks.peer_reads:app", "--port", str(port), "--no-access-log"]
    children = [(Child("peers", served, bench.servers.place / "peers.log", environment), port)]
    if found := shutil.which(REDIS_SERVER):
        command = [found, "--port", str(redis_port), "--bind", "127.0.0.1", "--save", ""]
        children.append((Child("redis", command, bench.servers.place / "redis.log", environment), redis_port))
    try:
        for child, taken in children:
            child.begin()
            deadline = time.monotonic() + 30
            while spawn.is_free(taken) and time.monotonic() < deadline:
                time.sleep(0.05)
        yield port
    finally:
        for child, _ in children:
            child.kill()


if __name__ == "__main__":
    main(figure)
