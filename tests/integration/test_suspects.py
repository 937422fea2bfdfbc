"""Whatever is under way is never called wrong, and what is wrong always is: random histories of one key."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import pytest
from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import under_way
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import patch
from backend.app.caches.under_way import Differing
from tests import catalogs
from tests.plain import Plain

KEY: Final = 100
STEPS: Final = 120  # of a history
WRITES: Final = (  # each with an event of the key
    "DELETE FROM products WHERE id = 100",
    "INSERT INTO products (id, company_id, name) VALUES (100, 10, 'again') ON CONFLICT DO NOTHING",
    "INSERT INTO products (id, company_id, name) VALUES (100, 20, 'there') ON CONFLICT DO NOTHING",
    "UPDATE products SET kind = CASE kind WHEN 'product' THEN 'service' ELSE 'product' END WHERE id = 100",
    "UPDATE companies SET city_id = 3 - city_id WHERE id = 10",
    "UPDATE companies SET is_active = NOT is_active WHERE id = 20",
)


@pytest.fixture
def plain(configured_database: None, plain: Plain) -> Plain:
    catalogs.small(plain)
    with db.transaction() as connection:
        patch(connection, Keys([KEY], [10, 20]), Cause("test"))
    return plain


class History:
    """Writes, their events, one patch after another, and looks; times are numbers of steps."""

    def __init__(self, plain: Plain, seed: int) -> None:
        self._plain = plain
        self._dice = random.Random(seed)
        self._events: list[int] = []  # not yet with a patch: when they were committed
        self._patch: tuple[Connection, Any, list[int]] | None = None  # in its transaction, with its events
        self._first: tuple[int, Differing] | None = None
        self.judged = 0

    def run(self) -> None:
        """So many steps; ends with all events applied."""
        steps: list[Callable[[int], None]] = [self._write, self._write, self._begin, self._end, self._look, self._judge]
        for number in range(STEPS):
            self._dice.choice(steps)(number)
        self._end(STEPS)
        self._begin(STEPS)
        self._end(STEPS)

    def _write(self, number: int) -> None:
        self._plain.run(self._dice.choice(WRITES))
        self._events.append(number)

    def _begin(self, number: int) -> None:
        """Some of the events, in any order, as redelivery has it."""
        if self._patch is None and self._events:
            taken = [event for event in self._events if number == STEPS or self._dice.random() < 0.7]
            connection = db.engine().connect()
            transaction = connection.begin()
            patch(connection, Keys([KEY]), Cause("test"))
            self._patch = connection, transaction, taken

    def _end(self, number: int) -> None:
        if self._patch is not None:
            connection, transaction, taken = self._patch
            transaction.commit()
            connection.close()
            self._events = [event for event in self._events if event not in taken]
            self._patch = None

    def _look(self, number: int) -> None:
        self._first = number, under_way.look("products", [KEY])

    def _judge(self, number: int) -> None:
        """Once the pipeline has passed the look."""
        if self._first is None or any(event <= self._first[0] for event in self._events):
            return
        with db.snapshot() as connection:
            assert under_way.stood(connection, "products", self._first[1].keys) == set()
        self.judged += 1


@pytest.mark.parametrize("seed", range(8))
def test_what_is_under_way_is_never_called_wrong(plain: Plain, seed: int) -> None:
    judged = 0
    for number in range(10):
        history = History(plain, 100 * seed + number)
        history.run()
        judged += history.judged
    assert judged > 10


@pytest.mark.parametrize(
    "by_hand",
    [
        "UPDATE product_city_mapping SET city_id = 2 WHERE product_id = 100",
        "DELETE FROM product_city_mapping WHERE product_id = 100",
    ],
)
def test_what_stands_is_called_wrong_whatever_is_written_since(plain: Plain, by_hand: str) -> None:
    plain.run(by_hand)
    first = under_way.look("products", [KEY, 101])
    for write in WRITES[2:]:
        plain.run(write)

    with db.snapshot() as connection:
        assert under_way.stood(connection, "products", first.keys) == {KEY, 101}


def test_what_was_right_at_the_look_is_no_suspect(plain: Plain) -> None:
    assert under_way.look("products", [KEY]).keys.tolist() == []


def test_what_came_right_past_all_patches_is_called_wrong_when_its_row_is_taken(plain: Plain) -> None:
    plain.run("UPDATE product_city_mapping SET city_id = 2 WHERE product_id = 100")
    under_way.look("products", [KEY])
    plain.run("UPDATE product_city_mapping SET city_id = 1 WHERE product_id = 100")
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 100")

    first = under_way.look("products", [KEY])

    with db.snapshot() as connection:
        assert under_way.stood(connection, "products", first.keys) == {KEY}


class Between:
    """A session after whose first statement about the keys something happens in another one."""

    def __init__(self, connection: Connection, happens: Callable[[], None]) -> None:
        self._connection, self._happens = connection, [happens]

    def exec_driver_sql(self, statement: str, *parameters: Any) -> Any:
        """Execute, and then let it happen."""
        found = self._connection.exec_driver_sql(statement, *parameters)
        if statement != under_way.SQL["what_waits"] and self._happens:
            self._happens.pop()()
        return found


def test_what_a_wide_patch_reaches_while_it_is_judged_is_not_called_wrong(plain: Plain) -> None:
    plain.run("UPDATE companies SET is_active = false WHERE id = 10")
    assert list(under_way.look("products", [KEY]).keys) == [KEY]
    plain.run("INSERT INTO wide_patches (company_id, of_company) VALUES (10, true)")

    def reaches() -> None:
        with db.transaction() as connection:
            patch(connection, Keys([KEY]), Cause("test"))
        plain.run("DELETE FROM wide_patches")

    with db.transaction() as connection:
        between: Any = Between(connection, reaches)
        assert under_way.stood(between, "products", [KEY]) == set()
    assert plain.one("SELECT count(*) FROM wide_patches") == 0, "it did happen"
