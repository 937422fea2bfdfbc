"""Lines a second of `citycache import`, beside COPY of the same rows into the same tables by PostgreSQL itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

from backend.embedded.supervisor import program
from benchmarks.catalog import CITIES, Size, connect, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, alternate

IMPORT, CHANGES, COPY = "import, new products", "import, changes of them", "COPY"


def figure(bench: Bench) -> Table:
    """Lines a second."""
    lines = bench.pick(500_000, 30_000)
    folder = bench.servers.place
    feeds = {IMPORT: folder / "creates.jsonl", CHANGES: folder / "changes.jsonl"}
    _write(feeds[IMPORT], [_create(number) for number in range(lines)])
    _write(feeds[CHANGES], [_change(number * 7919 % lines) for number in range(lines)])
    samples: dict[str, list[float]] = {}
    for _ in range(bench.pick(3, 1)):
        with bench.servers.catalog(Size(1_000)) as dsn:
            runs = {name: partial(_import, dsn, feed) for name, feed in feeds.items()}
            found = alternate(1, {name: partial(_rate, lines, one) for name, one in runs.items()})
        with bench.servers.catalog(Size(1_000)) as dsn:
            found |= alternate(1, {COPY: partial(_rate, lines, partial(_copy, dsn, lines))})
        for name, values in found.items():
            samples.setdefault(name, []).extend(values)
            bench.say(f"{name}: {values[0]:,.0f} lines/s")
    rows = [Row(COPY, samples[COPY], "lines/s")]
    rows += [Row(name, samples[name], "lines/s", COPY) for name in (IMPORT, CHANGES)]
    return Table("imports", "lines a second of a change feed", rows, ("Capture is on in all of them.",))


def _rate(lines: int, one: Any) -> float:
    begun = time.monotonic()
    one()
    return lines / (time.monotonic() - begun)


def _write(file: Path, lines: list[dict[str, Any]]) -> None:
    head = [{"op": "create", "kind": "city", "id": f"town-{n}", "name": f"Town {n}"} for n in range(CITIES)]
    head += [
        {"op": "create", "kind": "company", "id": f"shop-{n}", "name": f"Shop {n}", "parent": f"town-{n % CITIES}"}
        for n in range(CITIES * 4)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in head + lines), encoding="utf-8")


def _create(number: int) -> dict[str, Any]:
    return {
        "op": "create", "kind": "product", "id": f"thing-{number}", "name": f"Thing {number}",
        "parent": f"shop-{number * 31 % (CITIES * 4)}", "product_kind": "service" if number % 5 == 0 else "product",
    }  # fmt: skip


def _change(number: int) -> dict[str, Any]:
    change = {"kind": "product", "id": f"thing-{number}"}
    if number % 10 == 0:
        return {"op": "delete", **change}
    if number % 2:
        return {"op": "move", **change, "parent": f"shop-{number * 37 % (CITIES * 4)}"}
    return {"op": "update", **change, "is_active": number % 3 > 0}


def _import(dsn: str, feed: Path) -> None:
    subprocess.run(
        [program("citycache"), "import", str(feed), "--json"],
        env={**os.environ, "DATABASE_URL": dsn},
        check=True,
        capture_output=True,
    )


def _copy(dsn: str, lines: int) -> None:
    rows = "".join(f"thing-{number}\t{1 + number % 100}\tThing {number}\tproduct\n" for number in range(lines))
    with connect(dsn) as connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY products (external_id, company_id, name, kind) FROM STDIN", io.StringIO(rows))
    with connect(dsn) as connection:
        if run(connection, "SELECT count(*) FROM event_outbox")[0][0] < lines:
            raise RuntimeError("COPY was not captured")


if __name__ == "__main__":
    main(figure)
