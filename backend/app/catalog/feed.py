"""The import of change feeds: lines in order, in transactions of many lines, each whole or not at all."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO, Final, cast

import psycopg2.errors
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random

from backend.app import db
from backend.app.catalog.feed_fold import Tally
from backend.app.catalog.feed_lines import Bad, Change, decode, numbered, unpacked
from backend.app.catalog.feed_rows import Cursor, load, write
from backend.app.errors import BadFeedLine, Conflict, DatabaseAway

LINES_PER_TRANSACTION: Final = 5_000  # the cost of a commit is spread, and rows stay locked for a fifth of a second
SLOW_PARTS_PER_SECOND: Final = 10  # transactions a second when the rate is limited
ATTEMPTS: Final = 6  # of a transaction that meets other writers of the same rows
CLASHES: Final = (
    psycopg2.errors.UniqueViolation,
    psycopg2.errors.ForeignKeyViolation,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.SerializationFailure,
)
Progress = Callable[[int, int], None]  # bytes of the file read, lines applied


@dataclass
class Imported(Tally):
    """What an import has done; numbers of lines."""

    lines: int = 0  # without blank ones
    next_line: int = 1  # the first line that is not applied
    seconds: float = 0.0


class BadLine(BadFeedLine):
    """A line of a change feed cannot be applied; its transaction is rolled back, all earlier ones are kept."""

    def __init__(self, source: str, line: int, reason: str, done: Imported) -> None:
        super().__init__(source, line, reason)
        self.done = done
        self.next_line = done.next_line


class Interrupted(DatabaseAway):
    """The database went away during an import; what was committed is kept."""

    def __init__(self, failure: DatabaseAway, done: Imported) -> None:
        super().__init__(str(failure))
        self.done = done
        self.next_line = done.next_line


@dataclass
class _Part:
    """The lines of one transaction."""

    changes: list[Change] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    next_line: int = 0
    bad: tuple[int, str] | None = None  # the line that ends it, and why


def import_feed(
    stream: BinaryIO,
    source: str,
    from_line: int = 1,
    lines_per_transaction: int = LINES_PER_TRANSACTION,
    rate: float | None = None,
    progress: Progress = lambda read, lines: None,
) -> Imported:
    """Apply a feed, plain or gzip, from a line on; `rate` limits the lines a second.

    Raises BadLine and Interrupted, which know the line to go on from.
    """
    done = Imported(next_line=from_line)
    begin = time.monotonic()
    if rate:
        lines_per_transaction = max(1, min(lines_per_transaction, int(rate / SLOW_PARTS_PER_SECOND)))
    for part in _parts(unpacked(stream, source), from_line, lines_per_transaction):
        _apply(part, source, done)
        done.seconds = time.monotonic() - begin
        progress(_position(stream), done.lines)
        if rate and (ahead := done.lines / rate - done.seconds) > 0:
            time.sleep(ahead)
    return done


def _parts(stream: io.BufferedReader, from_line: int, size: int) -> Iterator[_Part]:
    lines = numbered(stream, from_line)
    part = _read(lines, from_line, size)
    while part.next_line > from_line or part.bad:
        yield part
        from_line = part.next_line
        part = _read(lines, from_line, size)


def _read(lines: Iterator[tuple[int, bytes]], after: int, size: int) -> _Part:
    part = _Part(next_line=after)
    try:
        for number, line in islice(lines, size):
            part.next_line = number
            if not line.isspace():
                part.changes.append(decode(line))
                part.numbers.append(number)
            part.next_line = number + 1
    except Bad as bad:
        part.bad = (bad.line or part.next_line, str(bad))
    return part


def _apply(part: _Part, source: str, done: Imported) -> None:
    try:
        tally = _commit(part)
    except Bad as bad:
        raise BadLine(source, bad.line, str(bad), done) from None
    except DatabaseAway as away:
        raise Interrupted(away, done) from away
    except (DBAPIError, psycopg2.Error) as failure:
        if not _is_clash(failure):
            raise
        raise Conflict(f"other writers change the same rows all the time: {failure}") from failure
    done.add(tally)
    done.lines += len(part.changes)
    done.next_line = part.next_line


def _is_clash(failure: BaseException) -> bool:
    return isinstance(failure.orig if isinstance(failure, DBAPIError) else failure, CLASHES)


@retry(
    retry=retry_if_exception(_is_clash),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random(0.01, 0.2),
    reraise=True,
)
def _commit(part: _Part) -> Tally:
    """One transaction; when it met another writer of the same rows, it is done again on what is there then."""
    tally = Tally()
    with db.transaction() as connection, _cursor(connection) as cursor:
        start = 0
        while start < len(part.changes):
            start = _run(cursor, part, start, tally)
        if part.bad:  # only now: a line before it may be bad as well
            raise Bad(part.bad[1], part.bad[0])
    return tally


def _cursor(connection: Connection) -> Cursor:
    """psycopg2's own cursor, for COPY."""
    return cast("Cursor", connection.connection.cursor())


def _run(cursor: Cursor, part: _Part, start: int, tally: Tally) -> int:
    """Apply changes from `start` on as far as they fold into one write; where to go on."""
    rest = part.changes[start:]
    model = load(cursor, rest)
    applied = 0
    try:
        for change in rest:
            if not model.apply(change):
                break
            applied += 1
    except Bad as bad:
        raise Bad(str(bad), part.numbers[start + applied]) from None
    write(cursor, model)
    tally.add(model.tally)
    return start + applied


def _position(stream: BinaryIO) -> int:
    try:
        return stream.tell()
    except (OSError, io.UnsupportedOperation):
        return 0
