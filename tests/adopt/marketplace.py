"""A marketplace that was there before: its tables, its definition, and the commands that an operator runs beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from backend.embedded.postgres import find_binaries
from tests import commands
from tests.plain import Plain, dsn
from tests.servers import ROOT

KUFAR: Final = ROOT / "tests" / "data" / "kufar"
CITYCACHE: Final = Path(sys.executable).with_name("citycache")


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass
class Marketplace:
    """One database with tables of others."""

    url: str
    file: Path
    broker: str = "memory://"
    owner: str = ""  # URL of whoever owns the database, where `url` is of a role that may do less
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, timeout: float = 180) -> Ran:
        """Run a command of ours beside it."""
        done = commands.run([CITYCACHE, *arguments], self.variables(), patience=timeout)
        return Ran(done.returncode, done.stdout, done.stderr)

    def variables(self) -> dict[str, str]:
        """The environment of every process of ours beside it."""
        own = {"DATABASE_URL": self.url, "CELERY_BROKER_URL": self.broker, "CATALOG_FILE": str(self.file)}
        return {**os.environ, **own, **self.environment}

    def adopt(self, *more: str) -> Ran:
        """Adopt it; it must succeed."""
        ran = self.run("adopt", "--apply", *more)
        assert ran.code == 0, ran.out + ran.err
        return ran

    def dump(self) -> str:
        """The schema as pg_dump writes it, without the keys that it draws anew each time."""
        done = subprocess.run(
            [tool("pg_dump"), "--schema-only", dsn(self.owner or self.url)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("\\"))


def tool(name: str) -> str:
    """A program of the server under test; the system's may be older than it."""
    own = find_binaries() / name
    return str(own) if own.exists() else str(shutil.which(name))


def kufar(url: str) -> None:
    """Tables and rows of the real case."""
    with Plain(url) as plain:
        plain.run((KUFAR / "schema.sql").read_text(encoding="utf-8"))
        plain.run((KUFAR / "rows.sql").read_text(encoding="utf-8"))


def adopted_kufar(url: str) -> None:
    """The same, adopted."""
    kufar(url)
    Marketplace(url, KUFAR / "catalog.toml").adopt()


def counted(plain: Plain) -> list[tuple[int, ...]]:
    """What the caches count."""
    return plain.all(
        "SELECT city_id, products_count, services_count, companies_count FROM citycache.city_counts ORDER BY city_id"
    )


def wanted(plain: Plain) -> list[tuple[int, ...]]:
    """What they have to count, by the marketplace's tables alone."""
    return plain.all((KUFAR / "oracle.sql").read_text(encoding="utf-8"))


def writes() -> Sequence[str]:
    """What the marketplace does all day, one statement a transaction."""
    text = (KUFAR / "writes.sql").read_text(encoding="utf-8")
    lines = (line.partition("--")[0].rstrip() for line in text.splitlines())
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]
