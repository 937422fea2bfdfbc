"""Own writes over HTTP, each read at once beside 500 other writes a second: with `fresh`, how long the read takes and
whether the write is in it; without, how often it is not. One client alone says how long one waits; several that never
pause are a load of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import httpx2

from benchmarks import load
from benchmarks.catalog import Size, connect, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted, quantiles
from benchmarks.pipeline import ALL, pipeline

RATE: Final = 500  # writes a second beside
CROWD: Final = 4  # clients beside each other
FAST: Final = Wanted(60, at_least=False, of="value")


@dataclass
class Reads:
    """What the reads of one kind found."""

    milliseconds: list[float] = field(default_factory=list)
    missing: int = 0  # answers without the write before
    stale: int = 0  # answers that said so: Citycache-Fresh: no


@dataclass(frozen=True)
class Client:
    """Moves products of its own to and fro, and reads each at once."""

    api: httpx2.Client
    size: Size
    is_fresh: bool

    def move_and_read(self, product: int, found: Reads) -> None:
        """One write and the read after it."""
        company = 1 + (product * 31 + int(time.time() * 1000)) % self.size.companies
        written = self.api.patch(f"/products/{product}", json={"company_id": company, "is_active": True})
        written.raise_for_status()
        query = {"fresh": written.headers["Citycache-Subject"]} if self.is_fresh else {}
        begun = time.perf_counter()
        answer = self.api.get(f"/caches/explain/product/{product}", params=query)
        found.milliseconds.append((time.perf_counter() - begun) * 1000)
        cached = answer.raise_for_status().json()["cached"]
        found.missing += cached is None or cached["company_id"] != company
        found.stale += answer.headers.get("Citycache-Fresh") == "no"


def figure(bench: Bench) -> Table:
    """Milliseconds of reads, and writes that were not in them."""
    size = Size(bench.pick(200_000, 20_000))
    others = Size(bench.pick(190_000, 19_700))  # products that the writes beside are on
    own = range(others.products + 1, size.products + 1)
    with (
        bench.servers.catalog(size) as dsn,
        pipeline(bench.servers, dsn, (*ALL, "api")) as started,
        connect(dsn) as connection,
    ):
        run(connection, load.SQL["prepare"])
        with load.going_on(dsn, others, bench.servers.place, RATE):
            fresh = _reads(started.api_url, size, own, True, 1)
            plain = _reads(started.api_url, size, own, False, 1)
            crowded = _reads(started.api_url, size, own, True, CROWD)
    rows = [
        *_rows("fresh reads", fresh, FAST),
        *_rows("plain reads", plain, None),
        *_rows(f"fresh reads, {CROWD} clients", crowded, None),
    ]
    notes = (f"Each client writes, reads what it wrote, and writes again; {RATE} writes a second beside.",)
    return Table("fresh", "own writes read at once", rows, notes)


def _rows(name: str, found: Reads, wanted: Wanted | None) -> list[Row]:
    at = quantiles(found.milliseconds)
    more = {"reads": len(found.milliseconds), "said no": found.stale}
    return [
        Row(f"{name}, p50", [at["p50"]], "ms"),
        Row(f"{name}, p99", [at["p99"]], "ms", "", wanted, {"max": at["max"]}),
        Row(f"{name} without the write before", [found.missing], "", more=more),
    ]


def _reads(api_url: str, size: Size, own: Sequence[int], is_fresh: bool, clients: int) -> Reads:
    parts = [own[first::clients] for first in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda products: _of_one(api_url, size, products, is_fresh), parts))
    return Reads(
        [value for reads in found for value in reads.milliseconds],
        sum(reads.missing for reads in found),
        sum(reads.stale for reads in found),
    )


def _of_one(api_url: str, size: Size, products: Sequence[int], is_fresh: bool) -> Reads:
    found = Reads()
    with httpx2.Client(base_url=f"{api_url}/api/v1", timeout=10) as api:
        client = Client(api, size, is_fresh)
        for product in products:
            client.move_and_read(product, found)
    return found


if __name__ == "__main__":
    main(figure)
