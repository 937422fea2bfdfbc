"""Reads beside an adopted marketplace's own tables: as in `reads`, with the live JOIN over these tables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from backend.embedded.supervisor import program
from benchmarks import load, reads
from benchmarks.catalog import Size, connect, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, alternate
from benchmarks.pipeline import ALL, pipeline
from benchmarks.reads import BESIDE, EMPTY, JOIN, KEPT, OURS, RATE, SORTED, Stage

KUFAR: Final = Path(__file__).parents[1] / "tests" / "data" / "kufar"
SIZE: Final = Size(60_000)  # as its rows are made
PEER: Final = """
SELECT city.id, city.name,
       count(product.id) FILTER (WHERE product.type = 'GOOD') AS products_count,
       count(product.id) FILTER (WHERE product.type = 'SERVICE') AS services_count,
       count(DISTINCT company.id) AS companies_count
  FROM cities AS city
  JOIN companies AS company ON company.city_id = city.id AND company.is_active AND company.city <> ''
  LEFT JOIN products AS product ON product.company_id = company.id AND NOT product.is_hidden AND NOT product.is_deleted
 WHERE city.is_active
 GROUP BY city.id
 ORDER BY products_count DESC, city.id DESC
 LIMIT 50"""
HIDDEN: Final = """
UPDATE products SET is_hidden = NOT is_hidden WHERE id = (SELECT 1 + (nextval('bench_numbers') * 7919) % :products);
"""  # each moves a count
VIEWED: Final = """
UPDATE companies SET total_views = total_views + 1 WHERE id = (SELECT 1 + (nextval('bench_numbers') * 7919) % 3000);
"""  # none does
BUSY: Final = {BESIDE: HIDDEN, ", beside views": VIEWED}


def figure(bench: Bench) -> Table:
    """Answers a second, milliseconds, microseconds of CPU."""
    rounds, seconds = bench.pick((3, 4.0), (1, 1.0))
    names = (EMPTY, *OURS)
    with (
        bench.servers.database() as dsn,
        _adopted(bench, dsn),
        pipeline(bench.servers, dsn, (*ALL, "api")) as started,
        reads.peers(bench, dsn, PEER) as peers,
        connect(dsn) as connection,
    ):
        stage = Stage(started, peers, seconds)
        samples = alternate(rounds, {name: partial(stage.rate, name) for name in (*names, JOIN, KEPT)})
        run(connection, load.SQL["prepare"])
        for beside, script in BUSY.items():
            with load.going_on(dsn, SIZE, bench.servers.place, RATE, script):
                busy = {name + beside: partial(stage.rate, name, beside) for name in names}
                samples |= alternate(rounds, busy)
        rows = [*_rows(stage, samples)]
        subprocess.run([program("citycache"), "verify", "--wait", "30"], check=True, capture_output=True)
    notes = (
        f"1,100 cities in three levels, 3,000 companies, 60,000 products; {RATE} writes a second beside: one that hides"
        " or shows a product, or one that counts a view of a company, which no cache holds.",
        "8 connections, each asking as soon as it has its answer, one uvicorn process; all on the same two CPUs.",
        "Every answer shows all that was committed before it was asked; the kept JOIN's are up to a minute old.",
    )
    return Table("adopted", "reads beside an adopted marketplace", rows, notes)


@contextmanager
def _adopted(bench: Bench, dsn: str) -> Iterator[None]:
    with connect(dsn) as connection:
        for name in ("schema.sql", "rows.sql"):
            run(connection, (KUFAR / name).read_text(encoding="utf-8"))
        run(connection, "VACUUM (ANALYZE)")
    os.environ["CATALOG_FILE"] = str(KUFAR / "catalog.toml")
    try:
        subprocess.run([program("citycache"), "adopt", "--apply"], check=True, capture_output=True)
        bench.say("it is adopted")
        yield
    finally:
        del os.environ["CATALOG_FILE"]


def _rows(stage: Stage, samples: dict[str, list[float]]) -> Iterator[Row]:
    for name in samples:
        beside = next((words for words in BUSY if name.endswith(words)), "")
        yield reads.row(stage, samples, name, beside)
    for against in (JOIN, KEPT):
        yield Row(f"{SORTED} : {against}", samples[SORTED], "answers/s", against)


if __name__ == "__main__":
    main(figure)
