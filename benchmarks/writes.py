"""What capture costs writers: transactions a second of 8 writers, beside none and beside counters kept by synchronous
triggers; flat out on skewed cities, and on one hot city with each transaction open for 5 ms."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks import load
from benchmarks.catalog import Size, connect, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted, alternate
from benchmarks.pipeline import pipeline

NONE, CAPTURE, COUNTERS = "no capture", "capture", "trigger counters"
BESIDE: Final = ", relay and worker beside"
HOT: Final = ", hot city, open 5 ms"
SWITCHES: Final = {  # on top of all triggers off
    NONE: "SELECT 1",
    CAPTURE: "ALTER TABLE products ENABLE TRIGGER capture_updated",
    COUNTERS: "ALTER TABLE products ENABLE TRIGGER peer_count",
}


def figure(bench: Bench) -> Table:
    """Transactions a second."""
    size = Size(bench.pick(1_000_000, 50_000))
    rounds, seconds = bench.pick((5, 6.0), (1, 2.0))
    samples: dict[str, list[float]] = {}
    with bench.servers.catalog(size) as dsn:
        with connect(dsn) as connection:
            run(connection, load.SQL["counters"])
            run(connection, load.SQL["hot"], {"rows": load.HOT_PRODUCTS})
        write = partial(_write, bench, dsn, size, seconds)
        samples |= alternate(rounds, {name: partial(write, name, load.SKEWED) for name in SWITCHES})
        samples |= alternate(rounds, {name + HOT: partial(write, name, load.HOT) for name in SWITCHES})
        with pipeline(bench.servers, dsn):
            samples |= alternate(rounds, {name + BESIDE: partial(write, name, load.SKEWED) for name in (NONE, CAPTURE)})
    rows = [Row(name, found, "tx/s", *_against(name)) for name, found in samples.items()]
    rows.append(Row(f"{CAPTURE}{HOT} : {COUNTERS}", samples[CAPTURE + HOT], "tx/s", COUNTERS + HOT, Wanted(3)))
    rows.append(Row(f"{CAPTURE} : {COUNTERS}", samples[CAPTURE], "tx/s", COUNTERS))
    notes = (
        "Writers are 8 clients of pgbench, flat out; each transaction writes one product.",
        "With relay and worker beside, the same two CPUs also bring the events into the caches.",
    )
    return Table("writes", "what capture costs writers", rows, notes)


def _against(name: str) -> tuple[str, Wanted | None]:
    kind, comma, rest = name.partition(",")
    if kind == NONE:
        return "", None
    return NONE + comma + rest, Wanted(0.85) if kind == CAPTURE and BESIDE not in name else None


def _write(bench: Bench, dsn: str, size: Size, seconds: float, name: str, script: str) -> float:
    with connect(dsn) as connection:
        run(connection, "ALTER TABLE products DISABLE TRIGGER USER")
        run(connection, SWITCHES[name])
        run(connection, "TRUNCATE event_outbox")
        run(connection, "CHECKPOINT")
    result = load.flat_out(dsn, size, bench.servers.place, seconds, script)
    bench.say(f"{name}: {result:,.0f} tx/s")
    return result


if __name__ == "__main__":
    main(figure)
