"""Whether events stay as cheap when the catalog grows: a steady stream at several sizes, beside the smallest.

A backlog would not do: of the many events that a small catalog then has for each product, the first patch brings the
newest state, and the others find nothing to do. In the stream each event changes its product's cached row.
"""

from __future__ import annotations

from benchmarks.catalog import Size
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted
from benchmarks.throughput import steady

MOST_REPEATED = 1_000_000  # products; a larger catalog takes long to copy


def figure(bench: Bench) -> Table:
    """Events a second by size; sizes take turns."""
    sizes = bench.pick((10_000, 100_000, 1_000_000, 10_000_000), (10_000, 50_000))
    warm, seconds, rounds = bench.pick((20.0, 15.0, 3), (1.0, 3.0, 1))
    samples: dict[str, list[float]] = {}
    for number in range(rounds):
        for products in sizes:
            if products <= MOST_REPEATED or not number:
                rate = steady(bench, Size(products), seconds, warm)
                samples.setdefault(_name(products), []).append(rate)
                bench.say(f"{_name(products)}: {rate:,.0f} events/s")
    smallest, *others = samples
    rows = [Row(smallest, samples[smallest], "events/s")]
    rows += [Row(name, samples[name], "events/s", smallest) for name in others[:-1]]
    rows.append(Row(others[-1], samples[others[-1]], "events/s", smallest, Wanted(0.8)))
    notes = (
        "The writer is on the same CPUs, and its own updates cost more in a larger catalog as well.",
        f"After {warm:g} s of writes: a page's first change after a checkpoint goes into the WAL as a whole.",
    )
    return Table("growth", "events a second by the size of the catalog", rows, notes)


def _name(products: int) -> str:
    return f"{products:,} products"


if __name__ == "__main__":
    main(figure)
