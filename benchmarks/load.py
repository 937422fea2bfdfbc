"""Writers: pgbench, which is part of PostgreSQL and costs the machine less than anything written in Python."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from backend.embedded.postgres import find_binaries
from benchmarks.catalog import Size
from events.sql_files import statements

SQL: Final = statements(Path(__file__).parent / "sql" / "load.sql")
ONCE: Final = """
UPDATE products SET company_id = 1 + (company_id + 17) % :companies, updated_at = now()
 WHERE id = (SELECT 1 + (nextval('bench_numbers') * 7919) % :products);
"""
SKEWED: Final = """
\\set product random(1, :products)
\\set company random_zipfian(1, :companies, 1.2)
UPDATE products SET company_id = :company, updated_at = now() WHERE id = :product;
"""
HOT: Final = """
\\set number random(1, :hot)
BEGIN;
UPDATE products SET is_active = NOT is_active, updated_at = now()
 WHERE id = (SELECT product_id FROM bench_hot WHERE bench_hot.number = :number);
\\sleep 5 ms
COMMIT;
"""
HOT_PRODUCTS: Final = 1_000


class WritersFailed(RuntimeError):
    """pgbench ended with an error."""


def paced(dsn: str, size: Size, folder: Path, rate: float, seconds: float, script: str = ONCE) -> subprocess.Popen[str]:
    """Start 4 writers that together begin `rate` transactions a second, each on a product that none wrote before."""
    return _pgbench(dsn, size, folder, script, seconds, clients=4, extra=("-R", str(rate)))


@contextmanager
def going_on(dsn: str, size: Size, folder: Path, rate: float, script: str = ONCE) -> Iterator[None]:
    """The same for as long as the block lasts, an hour at most."""
    writers = paced(dsn, size, folder, rate, 3_600, script)
    try:
        yield
        if writers.poll() is not None:
            finish(writers)
    finally:
        writers.kill()
        writers.communicate()


def flat_out(dsn: str, size: Size, folder: Path, seconds: float, script: str = SKEWED) -> float:
    """Transactions a second of 8 writers: SKEWED over companies, or all in one HOT city and open for 5 ms."""
    return finish(_pgbench(dsn, size, folder, script, seconds, clients=8))


def finish(pgbench: subprocess.Popen[str]) -> float:
    """Wait for the writers to end; transactions a second. Raises WritersFailed."""
    said, errors = pgbench.communicate(timeout=600)
    found = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    if pgbench.returncode != 0 or not found:
        raise WritersFailed(f"{said}\n{errors}")
    return float(found[1])


def _pgbench(
    dsn: str, size: Size, folder: Path, script: str, seconds: float, clients: int, extra: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    file = folder / "writers.sql"
    file.write_text(script, encoding="utf-8")
    command = [
        str(find_binaries() / "pgbench"), "--no-vacuum", "--protocol=prepared", "--client", str(clients), "--jobs", "1",
        "--time", str(max(1, round(seconds))), "--file", str(file), *extra,
        "--define", f"products={size.products}", "--define", f"companies={size.companies}",
        "--define", f"hot={HOT_PRODUCTS}", "-d", dsn,
    ]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}
    )
