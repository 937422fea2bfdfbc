"""The floor of the outbox is proven; what its proof cannot cover is found below it and goes out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from backend.app.relay import process
from events.outbox import Outbox, Row
from events.relay import run_once
from tests.plain import Plain
from tests.waiting import until


class Published:
    """Takes everything and remembers it."""

    def __init__(self) -> None:
        self.subjects: list[str] = []

    def deliver(self, rows: Sequence[Row]) -> list[int]:
        self.subjects += [row.subject for row in rows]
        return [row.id for row in rows]

    def heartbeat(self) -> None:
        """Nothing to keep alive."""

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        plain.run("INSERT INTO companies (id, name) VALUES (1, 'x')")
        plain.run("INSERT INTO products (id, company_id, name) SELECT n, 1, 'p' FROM generate_series(1, 9000) AS n")
        plain.run("DELETE FROM event_outbox")
        yield plain


@pytest.fixture
def resets() -> list[str]:
    """One entry for each row that was found below the floor."""
    return []


@pytest.fixture
def outbox(plain: Plain, resets: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    """One that raises its floor at each claim, and looks below it as often as it always does."""
    monkeypatch.setattr("events.floor.RAISE_SECONDS", 0.0)
    outbox = Outbox(process.connection(), lambda: resets.append("reset"))
    yield outbox
    outbox.close()


def relay(outbox: Outbox, rounds: int = 5) -> list[str]:
    """Some rounds; the subjects that went out."""
    published = Published()
    for _ in range(rounds):
        run_once(outbox, published, 4000)
    return published.subjects


def change(plain: Plain, first: int, last: int) -> set[str]:
    """Change these products in one statement; the subjects of the events."""
    plain.run("UPDATE products SET name = name || '.' WHERE id BETWEEN %s AND %s", (first, last))
    return {f"product/{n}" for n in range(first, last + 1)}


def comes_out(outbox: Outbox, wanted: set[str], seconds: float = 4) -> None:
    """All of it is published within this time."""
    seen: set[str] = set()

    def relayed() -> bool:
        seen.update(relay(outbox, 1))
        return wanted <= seen

    until(relayed, seconds, "all of it is published")


def test_a_running_transaction_holds_the_floor_down_though_it_is_the_newest_of_all(
    plain: Plain, outbox: Outbox, database: str
) -> None:
    """Its number is one above that of the last transaction that has ended."""
    with Plain(database, autocommit=False) as slow:
        slow.run("UPDATE products SET kind = 'service' WHERE id = 1")
        relay(outbox)
        assert outbox.floor.id < plain.one("SELECT last_value FROM event_outbox_id_seq")
        slow.commit()

    assert relay(outbox, 1) == ["product/1"]


@pytest.mark.parametrize("savepoint", ["RELEASE SAVEPOINT s", "ROLLBACK TO SAVEPOINT s"])
def test_a_savepoint_does_not_hide_the_transaction_around_it(
    plain: Plain, outbox: Outbox, database: str, savepoint: str
) -> None:
    with Plain(database, autocommit=False) as slow:
        slow.run("SAVEPOINT around")
        slow.run("UPDATE products SET kind = 'service' WHERE id = 1")
        slow.run("SAVEPOINT s")
        slow.run("UPDATE products SET kind = 'service' WHERE id = 2")
        slow.run(savepoint)
        relay(outbox)
        slow.commit()

    assert relay(outbox, 1) == ["product/1", "product/2"][: 2 if "RELEASE" in savepoint else 1]


def test_a_prepared_transaction_holds_the_floor_down_when_its_session_is_gone(
    plain: Plain, outbox: Outbox, database: str
) -> None:
    with Plain(database, autocommit=False) as slow:
        slow.run("UPDATE products SET kind = 'service' WHERE id = 1")
        slow.run("PREPARE TRANSACTION 'floor'")
    change(plain, 2, 2)
    assert relay(outbox) == ["product/2"]

    plain.run("COMMIT PREPARED 'floor'")

    assert relay(outbox, 1) == ["product/1"]


def test_at_rest_the_floor_costs_no_transaction_number(plain: Plain, outbox: Outbox) -> None:
    change(plain, 1, 3)
    relay(outbox)
    next_one = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"

    def costs_nothing() -> bool:
        before = plain.one(next_one)
        relay(outbox, 20)
        return bool(plain.one(next_one) == before)

    until(costs_nothing, what="no number is drawn, unless the server's own vacuum drew one")


def test_a_row_whose_id_was_drawn_before_its_transaction_had_a_number_goes_out_within_seconds(
    plain: Plain, outbox: Outbox, database: str, resets: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with Plain(database, autocommit=False) as bypass:
        row_id = bypass.one("SELECT last_value + 1 FROM event_outbox_id_seq")
        change(plain, 2, 5)
        relay(outbox)
        assert outbox.floor.id >= row_id
        bypass.run(
            "INSERT INTO event_outbox (id, type, subject) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, 'catalog.product.updated', 'product/1')",
            (row_id,),
        )
        bypass.commit()

    comes_out(outbox, {"product/1"})

    assert resets == ["reset"]
    assert [record.levelname for record in caplog.records if f"row {row_id} " in record.message] == ["ERROR"]


@pytest.mark.parametrize("row_id", [-(2**63) + 1, -1, 0])
def test_a_row_with_an_id_that_no_sequence_gives_goes_out(plain: Plain, outbox: Outbox, row_id: int) -> None:
    change(plain, 2, 5)
    relay(outbox)
    plain.run(
        "INSERT INTO event_outbox (id, type, subject) OVERRIDING SYSTEM VALUE"
        " VALUES (%s, 'catalog.product.updated', 'product/1')",
        (row_id,),
    )

    comes_out(outbox, {"product/1"})


@pytest.mark.parametrize("seed", range(3))
def test_a_sequence_that_is_set_back_by_any_amount_and_again_loses_nothing(
    plain: Plain, outbox: Outbox, seed: int
) -> None:
    dice = random.Random(seed)
    change(plain, 1, 8000)
    relay(outbox)
    for _ in range(4):
        last = plain.one("SELECT last_value FROM event_outbox_id_seq")
        plain.run("SELECT setval('event_outbox_id_seq', %s)", (max(1, last - dice.choice([1, 30, 500, 3000, last])),))
        first, rows = dice.randint(1, 4000), dice.choice([1, 20, 3000])

        comes_out(outbox, change(plain, first, first + rows))

    assert plain.one("SELECT count(*) FROM event_outbox") == 0
