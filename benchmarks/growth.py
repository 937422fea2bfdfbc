"""Whether events stay as cheap when the catalog grows: a backlog is drained at several sizes, beside the smallest."""

from __future__ import annotations

from benchmarks.catalog import Size
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted
from benchmarks.throughput import drained

MOST_REPEATED = 1_000_000  # products; a larger catalog takes long to copy


def figure(bench: Bench) -> Table:
    """Events a second by size; sizes take turns."""
    sizes = bench.pick((10_000, 100_000, 1_000_000, 10_000_000), (5_000, 50_000))
    events, rounds = bench.pick((100_000, 3), (20_000, 1))
    samples: dict[int, list[float]] = {products: [] for products in sizes}
    for number in range(rounds):
        for products in sizes:
            if products > MOST_REPEATED and number:
                continue
            samples[products].append(drained(bench, Size(products), events))
            bench.say(f"{products:,} products: {samples[products][-1]:,.0f} events/s")
    rows = [Row(_name(sizes[0]), samples[sizes[0]], "events/s")]
    rows += [
        Row(
            _name(products),
            samples[products],
            "events/s",
            _name(sizes[0]),
            Wanted(0.8) if products == sizes[-1] else None,
        )
        for products in sizes[1:]
    ]
    return Table("growth", "events a second by the size of the catalog", rows)


def _name(products: int) -> str:
    return f"{products:,} products"


if __name__ == "__main__":
    main(figure)
