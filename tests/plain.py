"""Plain SQL on a connection of its own, as another service or psql would run it: none of the code under test."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import psycopg2

from backend.embedded.postgres import find_binaries


def dsn(url: str) -> str:
    """libpq's form of a SQLAlchemy URL."""
    return url.replace("postgresql+psycopg2://", "postgresql://", 1)


class Plain:
    """One connection; each statement commits by itself unless `autocommit` is False."""

    def __init__(self, url: str, autocommit: bool = True, name: str = "plain") -> None:
        self.connection = psycopg2.connect(dsn(url), connect_timeout=5, application_name=f"test {name}")
        self.connection.autocommit = autocommit

    def run(self, sql: str, parameters: Any = None) -> int:
        """Execute; the number of rows touched."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

    def all(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """All rows of the answer."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())

    def one(self, sql: str, parameters: Any = None) -> Any:
        """The first column of the first row."""
        return self.all(sql, parameters)[0][0]

    def column(self, sql: str, parameters: Any = None) -> list[Any]:
        """The first column."""
        return [row[0] for row in self.all(sql, parameters)]

    def copy(self, target: str, lines: Sequence[str]) -> None:
        """COPY text lines into 'table (columns)'."""
        with self.connection.cursor() as cursor:
            cursor.copy_expert(f"COPY {target} FROM STDIN", io.StringIO("".join(f"{line}\n" for line in lines)))

    def commit(self) -> None:
        """End the transaction."""
        self.connection.commit()

    def rollback(self) -> None:
        """Undo the transaction."""
        self.connection.rollback()

    def close(self) -> None:
        """Close; an open transaction is rolled back."""
        self.connection.close()

    def __enter__(self) -> Plain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def psql(url: str, script: str) -> str:
    """Run a script by the real psql; what it printed."""
    binary = shutil.which("psql") or str(find_binaries() / "psql")
    done = subprocess.run(
        [binary, "-qXAt", "-v", "ON_ERROR_STOP=1", dsn(url)],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@contextmanager
def snapshot(url: str) -> Iterator[Plain]:
    """A read-only REPEATABLE READ transaction: every statement sees the same state."""
    with Plain(url, autocommit=False, name="snapshot") as reader:
        reader.connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        yield reader
