"""Lines of a change feed: read them from a file or a pipe, decode each one and say what is wrong with it."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO, Final, cast

import msgspec
from msgspec import UNSET, UnsetType

MOST_LINE_BYTES: Final = 1024 * 1024
MOST_ID: Final = 500  # characters; an index entry of PostgreSQL holds 2,700 bytes
MOST_NAME: Final = 5_000  # characters; before and after must fit together into one message of 128 KiB
MOST_TS: Final = 100  # characters; fractions of a second may be of any length, and instants are remembered
SKIPPED_TOGETHER: Final = 100_000  # lines before the first one that counts
BLANK: Final = b" \t\r\n\v\f"
OPS: Final = ("create", "update", "move", "delete")
KINDS: Final = ("city", "company", "product")
GZIP: Final = b"\x1f"  # of two bytes; a pipe may give one at first, and no line begins so
BOM: Final = b"\xef\xbb\xbf"
UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


class Bad(ValueError):
    """What is wrong with a line, as a sentence; `line` is its number where it is known, else 0."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


class FeedChange(msgspec.Struct, gc=False):
    """One line; UNSET where the line says nothing, None where it says null."""

    op: str
    kind: str
    id: str
    name: str | None = None
    parent: str | UnsetType | None = UNSET
    product_kind: str | None = None
    is_active: bool | None = None
    latitude: float | UnsetType | None = UNSET
    longitude: float | UnsetType | None = UNSET
    ts: str | None = None


_decode = msgspec.json.Decoder(FeedChange).decode


def unpacked(stream: BinaryIO, name: str = "") -> io.BufferedReader:
    """The feed's bytes; gzip is known by its first byte, or by the name."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, stream))
    if buffered.peek(1)[:1] == GZIP or name.endswith(".gz"):
        return io.BufferedReader(_Unzipped(buffered), 256 * 1024)
    return buffered


def numbered(stream: io.BufferedReader, first: int) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; of those that are blank or before `first` only some, as empty ones, so that whoever
    reads a long run of them sees where it is. Raises Bad."""
    number = 0
    while True:
        try:
            line = stream.readline(MOST_LINE_BYTES + 1)
            blank = _blank_lines(stream) if line.isspace() and len(line) <= MOST_LINE_BYTES else None
        except EOFError:
            raise Bad("the gzip file ends too early: it is truncated", number + 1) from None
        except (gzip.BadGzipFile, zlib.error) as failure:
            raise Bad(f"not a gzip file, or a damaged one: {failure}", number + 1) from None
        except OSError as failure:
            raise Bad(f"cannot be read: {failure.strerror or failure}", number + 1) from None
        if not line:
            return
        number += 1
        if len(line) > MOST_LINE_BYTES:
            raise Bad("the line is longer than 1 MiB", number)
        if blank is not None:
            number += blank
            yield number, b"\n"
        elif number >= first:
            yield number, line.removeprefix(BOM) or b"\n" if number == 1 else line
        elif number % SKIPPED_TOGETHER == 0:
            yield number, b"\n"


def _blank_lines(stream: io.BufferedReader) -> int:
    """Pass over the blank lines that stand in the buffer; how many."""
    buffered = stream.peek(1)
    blank = buffered[: len(buffered) - len(buffered.lstrip(BLANK))]
    end = blank.rfind(b"\n") + 1
    stream.read(end)
    return blank.count(b"\n")


def decode(line: bytes) -> FeedChange:
    """Decode and check what can be checked without the catalog; raises Bad."""
    try:
        if not line.isascii():
            line.decode()
        change = _decode(line)
    except UnicodeDecodeError as failure:
        found = "UTF-16, not UTF-8" if line.startswith(UTF_16) else "not UTF-8"
        raise Bad(f"{found}: {failure.reason} at byte {failure.start + 1}") from None
    except msgspec.ValidationError as failure:
        raise Bad(_sentence(str(failure))) from None
    except RecursionError:
        raise Bad("nested too deeply") from None
    except msgspec.DecodeError as failure:
        change = _with_half_pairs(line, failure)
    _check(change)
    return change


def _with_half_pairs(line: bytes, failure: msgspec.DecodeError) -> FeedChange:
    """Half a surrogate pair is JSON, which msgspec takes for damage: it is in the way only in a field that counts."""
    try:
        said = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Bad(f"not JSON: {failure}") from None
    counted = {name: said[name] for name in FeedChange.__struct_fields__ if name in said}
    for name, value in counted.items():
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise Bad(f"{name} has half of a surrogate pair, which PostgreSQL cannot keep")
    try:
        return msgspec.convert(counted, FeedChange)
    except msgspec.ValidationError as unfit:
        raise Bad(_sentence(str(unfit))) from None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _check(change: FeedChange) -> None:
    if change.op not in OPS:
        raise Bad(f"unknown op {_short(change.op)}: one of {', '.join(OPS)} is known")
    if change.kind not in KINDS:
        raise Bad(f"unknown kind {_short(change.kind)}: one of {', '.join(KINDS)} is known")
    _check_text("id", change.id, MOST_ID)
    if change.name is not None:
        _check_text("name", change.name, MOST_NAME)
    if change.parent:
        _check_text("parent", change.parent, MOST_ID)
    elif change.parent == "":
        raise Bad("parent is empty")
    if change.product_kind is not None and change.product_kind not in ("product", "service"):
        raise Bad(f"product_kind {_short(change.product_kind)} is neither 'product' nor 'service'")
    _check_degrees("latitude", change.latitude, 90)
    _check_degrees("longitude", change.longitude, 180)
    if change.ts is not None and not (len(change.ts) <= MOST_TS and _is_instant(change.ts)):
        raise Bad(f"ts {_short(change.ts)} is not a date")


def _check_text(name: str, value: str, most: int) -> None:
    if not value or value.isspace():
        raise Bad(f"{name} is empty")
    if "\0" in value:
        raise Bad(f"{name} has a NUL character, which PostgreSQL cannot keep")
    if len(value) > most:
        raise Bad(f"{name} is longer than {most} characters")


def _check_degrees(name: str, value: float | UnsetType | None, most: int) -> None:
    if isinstance(value, float) and not -most <= value <= most:
        raise Bad(f"{name} {value} is not between -{most} and {most}")


@lru_cache(maxsize=1024)  # feeds have long runs of one instant
def _is_instant(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _sentence(said: str) -> str:
    what, _, where = said.partition(" - at ")
    name = where.strip("`$.")
    if what.startswith("Expected `object`"):
        return "not an object: " + what
    if what.startswith("Object missing"):
        return what.replace("Object missing required field ", "missing ").replace("`", "")
    return f"{name}: {what}" if name else what


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Unzipped(io.RawIOBase):
    """Hands out what it has before it fails; GzipFile by itself drops the last lines of a truncated file."""

    def __init__(self, packed: io.BufferedReader) -> None:
        self._file = gzip.GzipFile(fileobj=packed)
        self._is_empty = not packed.peek(1)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._is_empty:
            raise EOFError
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)
