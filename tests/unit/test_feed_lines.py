"""Every kind of bad line is answered with its number and a reason."""

from __future__ import annotations

import gzip
import io
from typing import Any

import pytest

from backend.app.catalog.feed.lines import Bad, decode, numbered, unpacked

GOOD = b'"op":"create","kind":"city","id":"a"'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"nonsense", "not JSON"),
        (b"{" + GOOD + b"} x", "not JSON"),
        (b"[" * 100_000, "not an object"),
        (b'{"op":"create","kind":"city","id":"a","x":' + b"[" * 100_000, "nested too deeply"),
        (b"[]", "not an object"),
        (b"7", "not an object"),
        (b"null", "not an object"),
        (b'{"kind":"city","id":"a"}', "missing op"),
        (b'{"op":"create","id":"a"}', "missing kind"),
        (b'{"op":"create","kind":"city"}', "missing id"),
        (b'{"op":"upsert","kind":"city","id":"a"}', "unknown op 'upsert'"),
        (b'{"op":"create","kind":"town","id":"a"}', "unknown kind 'town'"),
        (b'{"op":1,"kind":"city","id":"a"}', "op: Expected `str`, got `int`"),
        (b'{"op":"create","kind":"city","id":7}', "id: Expected `str`, got `int`"),
        (b'{"op":"create","kind":"city","id":null}', "id: Expected `str`, got `null`"),
        (b'{"op":"create","kind":"city","id":""}', "id is empty"),
        (b'{"op":"create","kind":"city","id":" "}', "id is empty"),
        (b'{"op":"create","kind":"city","id":"a\\u0000"}', "id has a NUL"),
        (b'{"op":"create","kind":"city","id":"' + b"a" * 501 + b'"}', "id is longer than 500"),
        (b"{" + GOOD + b',"name":""}', "name is empty"),
        (b"{" + GOOD + b',"name":7}', "name: Expected `str | null`"),
        (b"{" + GOOD + b',"name":"\\u0000"}', "name has a NUL"),
        (b"{" + GOOD + b',"name":"' + b"a" * 5001 + b'"}', "name is longer than 5000"),
        (b"{" + GOOD + b',"name":"\\ud800"}', "name has half of a surrogate pair"),
        (b"{" + GOOD + b',"name":"\\ud83d cut","x":1}', "name has half of a surrogate pair"),
        (b'{"op":"create","kind":"city","id":"\\udc00\\ud800"}', "id has half of a surrogate pair"),
        (b"{" + GOOD + b',"name":7,"x":"\\ud800"}', "name: Expected `str | null`"),
        (b"{" + GOOD + b',"x":"\\ud800","y":NaN}', "not JSON"),
        ("{}".encode("utf-16"), "UTF-16, not UTF-8"),
        ('{"op":"create","kind":"city","id":"a"}'.encode("utf-16-le"), "not JSON"),
        (b"{" + GOOD + b',"name":"\xff"}', "not UTF-8"),
        (b"{" + GOOD + b',"other":["\xff"]}', "not UTF-8"),
        (b"{" + GOOD + b',"parent":""}', "parent is empty"),
        (b"{" + GOOD + b',"parent":5}', "parent: Expected `str | null`"),
        (b"{" + GOOD + b',"product_kind":"toy"}', "product_kind 'toy' is neither"),
        (b"{" + GOOD + b',"is_active":"yes"}', "is_active: Expected `bool | null`"),
        (b"{" + GOOD + b',"is_active":1}', "is_active: Expected `bool | null`"),
        (b"{" + GOOD + b',"latitude":90.1}', "latitude 90.1 is not between -90 and 90"),
        (b"{" + GOOD + b',"longitude":-181}', "longitude -181.0 is not between -180 and 180"),
        (b"{" + GOOD + b',"latitude":NaN}', "not JSON"),
        (b"{" + GOOD + b',"latitude":Infinity}', "not JSON"),
        (b"{" + GOOD + b',"latitude":1e999}', "latitude: Number out of range"),
        (b"{" + GOOD + b',"latitude":"5"}', "latitude: Expected `float | null`"),
        (b"{" + GOOD + b',"ts":"yesterday"}', "ts 'yesterday' is not a date"),
        (b"{" + GOOD + b',"ts":"2026-13-01T00:00:00Z"}', "is not a date"),
        (b"{" + GOOD + b',"ts":5}', "ts: Expected `str | null`"),
        (b"{" + GOOD + b',"ts":"2026-01-01T00:00:00.' + b"1" * 1_000_000 + b'"}', "is not a date"),
    ],
)
def test_says_what_is_wrong_with_a_line(line: bytes, reason: str) -> None:
    with pytest.raises(Bad) as caught:
        decode(line)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b',"ts":"2026-11-24"',
        b',"ts":"2026-11-24T08:00:00.5+01:00"',
        b',"latitude":90,"longitude":-180.0',
        b',"name":null,"latitude":null,"parent":null,"is_active":null,"product_kind":null,"ts":null',
        b',"something":"else"',
        b',"something":"\\ud83d","other":["\\udc00"]',
        b',"name":"\\u00fc \xc3\xbc \\ud83d\\ude00"',
    ],
)
def test_takes_what_the_contract_allows(rest: bytes) -> None:
    assert decode(b"{" + GOOD + rest + b"}\r\n").id == "a"


def lines_of(data: bytes, first: int = 1, name: str = "") -> list[tuple[int, bytes]]:
    return list(numbered(unpacked(io.BytesIO(data), name), first))


def test_counts_lines_from_one_and_skips_those_before_the_first() -> None:
    assert lines_of(b"a\n\nb") == [(1, b"a\n"), (2, b"\n"), (3, b"b")]
    assert lines_of(b"a\nc\nb", first=3) == [(3, b"b")]
    assert lines_of(b"a\n\n\n\nb", first=5) == [(4, b"\n"), (5, b"b")]


def test_knows_gzip_by_its_first_bytes() -> None:
    assert lines_of(gzip.compress(b"a\nb\n"), name="feed.jsonl") == [(1, b"a\n"), (2, b"b\n")]


def test_knows_gzip_when_a_pipe_gives_one_byte_at_first() -> None:
    class Drop(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            return super().readinto(memoryview(buffer)[:1])

    assert list(numbered(unpacked(Drop(gzip.compress(b"a\n"))), 1)) == [(1, b"a\n")]


@pytest.mark.parametrize(("data", "lines"), [(b"a\n", [(1, b"a\n")]), (b"\n", [(1, b"\n")]), (b"", [(1, b"\n")])])
def test_takes_no_offence_at_a_byte_order_mark(data: bytes, lines: list[tuple[int, bytes]]) -> None:
    assert lines_of(b"\xef\xbb\xbf" + data) == lines


@pytest.mark.parametrize(
    ("data", "name", "line", "reason"),
    [
        (gzip.compress(b"a\n" * 100_000)[:-8], "", 100_001, "truncated"),
        (b"plain text", "feed.jsonl.gz", 1, "not a gzip file"),
        (b"", "feed.jsonl.gz", 1, "truncated"),
        (b"\x1f", "", 1, "gzip"),
        (gzip.compress(b"a\n", mtime=0)[:-5] + b"wrong", "", 2, "damaged"),
        (b"a\n" + b"b" * (1024 * 1024 + 1) + b"\n", "", 2, "longer than 1 MiB"),
    ],
)
def test_names_the_line_at_which_a_file_breaks_off(data: bytes, name: str, line: int, reason: str) -> None:
    with pytest.raises(Bad, match=reason) as caught:
        lines_of(data, name=name)
    assert caught.value.line == line
