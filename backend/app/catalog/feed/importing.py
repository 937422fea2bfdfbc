"""The import of change feeds: lines in order, in transactions of many lines, each whole or not at all."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, Final

import psycopg2.errors
from sqlalchemy.exc import DBAPIError

from backend.app.catalog.feed.commit import FeedPart, commit, is_clash
from backend.app.catalog.feed.fold import Tally
from backend.app.catalog.feed.lines import Bad, decode, numbered, unpacked
from backend.app.errors import BadFeedLine, CitycacheError, sentence

LINES_PER_TRANSACTION: Final = 5_000  # the cost of a commit is spread, and rows stay locked for a fifth of a second
BYTES_PER_TRANSACTION: Final = 8 * 2**20  # of lines, so that long ones do not pile up
BLANKS_PER_PART: Final = 20  # runs of blank lines, more than others, after which the progress is told
SLOW_PARTS_PER_SECOND: Final = 10  # transactions a second when the rate is limited
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


class Interrupted(CitycacheError):
    """The database could not go on with an import, or somebody pressed Ctrl-C; what was committed is kept."""

    def __init__(self, reason: str, done: Imported) -> None:
        super().__init__(reason)
        self.done = done
        self.next_line = done.next_line


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
    try:
        for part in _parts(unpacked(stream, source), from_line, lines_per_transaction):
            with _undivided():
                _apply(part, source, done)
            done.seconds = time.monotonic() - begin
            progress(_position(stream), done.lines)
            if rate and (ahead := done.lines / rate - done.seconds) > 0:
                time.sleep(ahead)
    except KeyboardInterrupt as wish:
        raise Interrupted("interrupted", done) from wish
    return done


@contextmanager
def _undivided() -> Iterator[None]:
    """Ctrl-C waits for the end of it: half-way nobody could say where to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wishes: list[int] = []
    usual = signal.signal(signal.SIGINT, lambda number, _: wishes.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if wishes:
        raise KeyboardInterrupt


def _parts(stream: io.BufferedReader, from_line: int, size: int) -> Iterator[FeedPart]:
    lines = numbered(stream, from_line)
    part = _read(lines, from_line, size)
    while part.read or part.bad:
        yield part
        part = _read(lines, part.next_line, size)


def _read(lines: Iterator[tuple[int, bytes]], after: int, size: int) -> FeedPart:
    part = FeedPart(next_line=after)
    length = 0
    try:
        for number, line in islice(lines, size):
            part.next_line = max(part.next_line, number)
            part.read += 1
            if not line.isspace():
                part.changes.append(decode(line))
                part.numbers.append(number)
            part.next_line = max(part.next_line, number + 1)
            length += len(line)
            if length >= BYTES_PER_TRANSACTION or part.read - 2 * len(part.changes) >= BLANKS_PER_PART:
                break
    except Bad as bad:
        part.bad = (bad.line or part.next_line, str(bad))
    return part


def _apply(part: FeedPart, source: str, done: Imported) -> None:
    try:
        tally = commit(part) if part.changes else _nothing(part)
    except Bad as bad:
        raise BadLine(source, bad.line, str(bad), done) from None
    except psycopg2.errors.InsufficientPrivilege:
        raise
    except (CitycacheError, DBAPIError, psycopg2.Error) as failure:
        raise Interrupted(_reason(failure, part), done) from failure
    done.add(tally)
    done.lines += len(part.changes)
    done.next_line = part.next_line


def _reason(failure: Exception, part: FeedPart) -> str:
    if isinstance(failure, CitycacheError):
        return str(failure)
    if is_clash(failure):
        return f"other writers change the same rows all the time: {sentence(failure)}"
    return f"the database refuses lines {part.numbers[0]} to {part.numbers[-1]}: {sentence(failure)}"


def _nothing(part: FeedPart) -> Tally:
    if part.bad:
        raise Bad(part.bad[1], part.bad[0])
    return Tally()


def _position(stream: BinaryIO) -> int:
    try:
        return stream.tell()
    except (OSError, io.UnsupportedOperation):
        return 0
