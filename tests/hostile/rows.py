"""Rows that are hard to carry: extremes of every type, large ones, many at once, columns that were added."""

from __future__ import annotations

import random as randomness
import threading
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import psycopg2

from tests.hostile.tally import Tally
from tests.plain import Plain

MEBIBYTE: Final = 2**20
CITY: Final = "INSERT INTO cities (name) VALUES ('hostile') RETURNING id"
COMPANY: Final = "INSERT INTO companies (name, city_id) VALUES ('hostile', %s) RETURNING id"
PRODUCT: Final = "INSERT INTO products (name, company_id) SELECT 'hostile', %s FROM generate_series(1, %s) RETURNING id"
TEXTS: Final = (
    "", " ", "\n", "\t\r\x01\x1f\x7f", "\u2028\u2029\ufeff", "\uffff\U0010ffff", "\\u0000", '"\\', "'; --", "é" * 1_000,
    "NaN", "null", "[1", '{"a": "\\ud83d"}', "a\u0300" * 500, "%s %(x)s {0}", "<script>", "\x1b]0;x\x07",
)  # fmt: skip
COLUMNS: Final = (  # a type, and values that it takes
    ("json", ('{"t":"\\ud83d"}', '{"t":"\\u0000"}', '{"a":1,"a":2}', "1e400", "-0", "9" * 5_000, "null", '"\\ud83d"')),
    ("json", ("[" * 1_500 + "]" * 1_500, '{"a":' * 1_200 + "1" + "}" * 1_200, " [ 1 ] ", "1" + "0" * 400)),
    ("jsonb", ("1e400", "9" * 5_000, "[" * 1_000 + "]" * 1_000, '{"":{"":""}}', "0." + "0" * 400 + "1")),
    ("json[]", ('{"\\"\\\\ud83d\\""}', "{null,1}")),
    ("bytea", ("\\x00ff", "\\x" + "ab" * 5_000, "")),
    ("numeric", ("NaN", "Infinity", "-Infinity", "9" * 3_000, "0." + "0" * 3_000 + "1")),
    ("float8", ("NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "-0")),
    ("float4[]", ("{NaN,Infinity,NULL,1e-45}",)),
    ("bigint[]", ("{}", "{{1,2},{3,4}}", "[-5:-4]={1,2}", "{NULL,9223372036854775807}")),
    ("timestamptz", ("infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00")),
    ("timestamp", ("infinity", "0044-03-15 00:00:00 BC", "294276-12-31 23:59:59")),
    ("date", ("infinity", "-infinity", "4714-11-24 BC", "5874897-12-31")),
    ("timetz", ("24:00:00+15:59", "00:00:00-15:59")),
    ("interval", ("178000000 years", "-1 mon 1 day -00:00:00.000001", "0")),
    ("int8range", ("empty", "(,)", "[-9223372036854775808,9223372036854775807)")),
    ("tstzrange", ("[-infinity,infinity]", "empty", "(,)")),
    ("nummultirange", ("{}", "{(,1],[2,NaN]}")),
    ("tsvector", ("a:1,2 'b c':3A", "")),
    ("xml", ("<a>\n<![CDATA[ ]]></a>", "")),
    ("uuid", ("00000000-0000-0000-0000-000000000000",)),
    ("inet", ("::ffff:1.2.3.4/128", "0.0.0.0/0")),
    ("bit varying", ("", "1" * 5_000)),
    ("point", ("(NaN,Infinity)",)),
    ("money", ("-92233720368547758.08",)),
    ("cities", ('(1,,"a ""b""",NaN,)',)),
    ("text", TEXTS),
)
NAMES: Final = (
    "x", "a b", 'quo"te', "é", "before", "after", "data", "type", "Kind", "x" * 63, "\u2028", "$1", "%s", "__type__",
)  # fmt: skip


REFUSALS: Final = (
    psycopg2.DataError, psycopg2.IntegrityError, psycopg2.ProgrammingError, psycopg2.NotSupportedError,
    psycopg2.InternalError, psycopg2.errors.StatementTooComplex, psycopg2.errors.ProgramLimitExceeded,
)  # fmt: skip


class Attempt(NamedTuple):
    """Statements of one transaction on rows of its own."""

    kind: str
    statements: tuple[tuple[str, Any], ...]  # each with its value; `%(id)s` is the first product
    size: int = 1  # products


def attempts(random: randomness.Random) -> Iterator[Attempt]:
    """Each kind once or more, with values by chance, in any order."""
    found = [attempt for make in (_values, _columns, _sizes) for attempt in make(random)]
    random.shuffle(found)
    yield from found


def _values(random: randomness.Random) -> Iterator[Attempt]:
    for value in random.sample(TEXTS, 6):
        noun = random.choice(["products", "companies", "cities"])
        yield _one("odd text", f"UPDATE {noun} SET name = %(value)s WHERE id = {_own(noun)}", value)
    for value in ("NaN", "Infinity", "-Infinity", "1e308", "5e-324", "-0"):
        place = random.choice(["latitude", "longitude"])
        yield _one("extreme float", f"UPDATE cities SET {place} = %(value)s::float8 WHERE id = {_own('cities')}", value)
    for value in ("infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00"):
        noun, place = random.choice(["products", "companies"]), random.choice(["created_at", "updated_at"])
        yield _one("extreme time", f"UPDATE {noun} SET {place} = %(value)s::timestamptz WHERE id = {_own(noun)}", value)
    for value in (-(2**63), 2**63 - 1, -1, 0, -(2**53) - 1, 2**53 + 1):
        noun = random.choice(["products", "companies", "cities"])
        change = f"UPDATE {noun} SET id = %(value)s WHERE id = {_own(noun)}"
        yield _one("extreme id", change, value + (0 if abs(value) < 2 or abs(value) > 2**62 else random.randint(-9, 9)))
    for value in ("goods", "", "Product", None):
        yield _one("kind that is none", "UPDATE products SET kind = %(value)s WHERE id = %(id)s", value)
    for value in ("", "\x01", "x" * 2_000):
        yield _one("odd external id", "UPDATE products SET external_id = %(value)s WHERE id = %(id)s", value)


def _columns(random: randomness.Random) -> Iterator[Attempt]:
    for name, (of_type, values) in zip(_names(random), COLUMNS, strict=False):
        quoted = '"' + name.replace('"', '""').replace("%", "%%") + '"'
        noun = random.choice(["products", "companies"])
        steps = (
            (f"ALTER TABLE {noun} ADD COLUMN {quoted} {of_type}", None),
            *(
                (f"UPDATE {noun} SET {quoted} = %(value)s::{of_type} WHERE id = {_own(noun)}", value)
                for value in values
            ),
        )
        yield Attempt(f"column {of_type}", (*steps, (f"ALTER TABLE {noun} DROP COLUMN {quoted}", None)))


def _sizes(random: randomness.Random) -> Iterator[Attempt]:
    for size in (1, 5, 12, 20):
        letter = random.choice(["a", "é", "\\", "\x01"])
        change = (
            f"UPDATE products SET name = repeat(%(value)s, {size * MEBIBYTE // len(letter.encode())}) WHERE id = %(id)s"
        )
        yield _one(f"row of {size} MiB", change, letter)
    small = "UPDATE products SET name = 'small' WHERE company_id = (SELECT company_id FROM products WHERE id = %(id)s)"
    yield _one("4,000 rows of 40 kB", small.replace("'small'", "repeat(%(value)s, 40960)"), "a", 4_000)
    yield _one("20,000 rows", small.replace("'small'", "%(value)s"), "many", 20_000)
    yield _one("rows deleted", "DELETE FROM cities WHERE name = %(value)s AND id = " + _own("cities"), "hostile", 500)


def _names(random: randomness.Random) -> Iterator[str]:
    while True:
        yield from random.sample(NAMES, len(NAMES))


def _own(noun: str) -> str:
    """An expression for the id of its own row, once formatted."""
    company = "(SELECT company_id FROM products WHERE id = %(id)s)"
    if noun == "cities":
        return f"(SELECT city_id FROM companies WHERE id = {company})"
    return company if noun == "companies" else "%(id)s"


def _one(kind: str, statement: str, value: Any, size: int = 1) -> Attempt:
    return Attempt(kind, ((statement, value),), size)


class Writer:
    """Writes them, again and again; knows which subjects had which kind."""

    def __init__(self, plain: Plain, seed: int, pause: float, tally: Tally) -> None:
        """`plain` commits each statement by itself; `pause` seconds lie between two attempts."""
        self.kinds: dict[str, str] = {}  # of the attempts, by the subjects of their events
        self._plain, self._dice, self._pause, self._tally = plain, randomness.Random(seed), pause, tally

    def work(self, stop: threading.Event) -> None:
        """Until stopped."""
        while not stop.is_set():
            for attempt in attempts(self._dice):
                if stop.wait(self._pause):
                    return
                self._write(attempt)

    def _write(self, attempt: Attempt) -> None:
        city = self._plain.one(CITY)
        company = self._plain.one(COMPANY, [city])
        product = self._plain.all(PRODUCT, [company, attempt.size])[0][0]
        kind = f"row: {attempt.kind}"
        self.kinds |= dict.fromkeys((f"city/{city}", f"company/{company}", f"product/{product}"), kind)
        for statement, value in attempt.statements:
            self._tally.note(kind, self._run(statement, {"id": product, "value": value}))

    def _run(self, statement: str, values: dict[str, Any]) -> str:
        """What the server said."""
        try:
            self._plain.run(statement, values)
        except REFUSALS:
            return "refused by the server"
        return "written"
