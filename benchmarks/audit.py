"""What the auditor costs at rest: CPU of its thread and of its PostgreSQL backends, as a part of one core."""

from __future__ import annotations

import time
from typing import Final

from backend.app.observing.auditor import Auditor
from benchmarks import cpu
from benchmarks.catalog import Size, connect, run
from benchmarks.figure import Bench, main
from benchmarks.measure import Row, Table, Wanted

COMPARED: Final = "SELECT coalesce(sum(checked), 0)::bigint FROM audit_minutes WHERE cache = 'products'"


def figure(bench: Bench) -> Table:
    """Percent of a core while nothing is written."""
    size, seconds = Size(bench.pick(200_000, 50_000)), bench.pick(300, 8)
    with bench.servers.catalog(size) as dsn, connect(dsn) as connection:
        auditor = Auditor(passed=lambda instant: True)
        auditor.run_once()  # connects, and reads tables that nobody has read yet
        before, began = run(connection, COMPARED)[0][0], time.monotonic()
        thread, server = time.thread_time(), cpu.backends(bench.servers.postgres.pid)
        while (left := began + seconds - time.monotonic()) > 0:
            time.sleep(min(auditor.run_once(), left))
        auditor.run_once()  # counts what it has compared
        took = time.monotonic() - began
        parts = {
            "auditor": time.thread_time() - thread,
            "its backends": cpu.backends(bench.servers.postgres.pid) - server,
        }
        compared = run(connection, COMPARED)[0][0] - before
    rows = [Row(name, [100 * spent / took], "% of a core") for name, spent in parts.items()]
    both = [100 * sum(parts.values()) / took]
    rows.append(Row("both", both, "% of a core", wanted=Wanted(1.0, at_least=False, of="value")))
    rows.append(Row("products compared", [compared / took], "a second"))
    notes = (f"{size.products:,} products, at rest for {took:.0f} s.",)
    return Table("audit", "the auditor's share of a core, at rest", rows, notes)


if __name__ == "__main__":
    main(figure)
