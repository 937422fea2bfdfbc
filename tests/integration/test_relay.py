"""The relay: every committed event is delivered at least once, those of a row in their order, by one leader."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from backend.app import db
from backend.app.errors import Away
from backend.app.relay import process
from events.contract import MOST_EVENTS
from events.errors import BrokerGone, EventError, LeaderLost
from events.outbox import CLAIM_LIMITS, LOOKED_FOR_SECONDS, SQL, Backlog, Outbox, Row
from events.relay import ROUND_SECONDS, Pace, Relay, Relayed, RelayWatcher, rest, run_once
from tests.background import background
from tests.plain import Plain
from tests.waiting import until

PACE = Pace(rows=100, shortest_seconds=0.001, longest_seconds=0.01)


class Delivered:
    """Takes everything, or what `takes` says; remembers it."""

    def __init__(self, takes: Callable[[Sequence[Row]], list[int]] = lambda rows: [row.id for row in rows]) -> None:
        self.rows: list[Row] = []
        self.beats = self.closed = 0
        self._takes = takes

    def deliver(self, rows: Sequence[Row]) -> list[int]:
        taken = self._takes(rows)
        self.rows += [row for row in rows if row.id in set(taken)]
        return taken

    def heartbeat(self) -> None:
        self.beats += 1

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        plain.run("INSERT INTO companies (id, name) VALUES (1, 'x')")
        plain.run("DELETE FROM event_outbox")
        yield plain


@pytest.fixture
def outbox(plain: Plain) -> Iterator[Outbox]:
    outbox = Outbox(process.connection())
    yield outbox
    outbox.close()


def add(plain: Plain, *ids: int) -> None:
    """Commit a product, and with it an event, for each id."""
    for row_id in ids:
        plain.run("INSERT INTO products (id, company_id, name) VALUES (%s, 1, 'p')", (row_id,))


def subjects(rows: Sequence[Row]) -> list[str]:
    return [row.subject for row in rows]


# One round


def test_a_round_claims_delivers_and_deletes(plain: Plain, outbox: Outbox) -> None:
    add(plain, 1, 2, 3)
    delivered = Delivered()

    assert run_once(outbox, delivered, rows=2) == Relayed(2, 2)
    assert run_once(outbox, delivered, rows=2) == Relayed(1, 1)
    assert run_once(outbox, delivered, rows=2) == Relayed(0, 0)

    assert subjects(delivered.rows) == ["product/1", "product/2", "product/3"]
    assert plain.one("SELECT count(*) FROM event_outbox") == 0


def test_rounds_that_follow_each_other_find_rows_that_came_meanwhile_as_well(plain: Plain, outbox: Outbox) -> None:
    deliverer = Delivered()
    for row_id in range(1, 6):
        add(plain, row_id)
        assert run_once(outbox, deliverer, 100) == Relayed(1, 1)

    assert subjects(deliverer.rows) == [f"product/{row_id}" for row_id in range(1, 6)]
    assert plain.one("SELECT count(*) FROM event_outbox") == 0
    assert outbox._run("SELECT count(*) FROM pg_prepared_statements", {}) == [(2,)]


@pytest.mark.parametrize(
    ("claimed", "seconds", "waits"),
    [
        (1, 0.0, ROUND_SECONDS),
        (1, ROUND_SECONDS / 4, ROUND_SECONDS * 3 / 4),
        (1, 2 * ROUND_SECONDS, 0.0),
        (MOST_EVENTS, 0.0, 0.0),
    ],
)
def test_few_rows_wait_for_company_and_many_for_nothing(claimed: int, seconds: float, waits: float) -> None:
    assert rest(Relayed(claimed, claimed), seconds) == pytest.approx(waits)


def test_only_the_relay_does_not_wait_for_the_disk(outbox: Outbox) -> None:
    """What it has delivered and not taken out comes again."""
    assert outbox.lead()
    assert outbox._run("SHOW synchronous_commit", {}) == [("off",)]
    with db.transaction() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_what_comes_while_a_large_statement_waits_goes_before_it_but_not_before_events_of_its_own_row(
    plain: Plain, outbox: Outbox
) -> None:
    plain.run("INSERT INTO products (id, company_id, name) SELECT n, 1, 'p' FROM generate_series(1, 12) AS n")
    assert took(outbox, 4) == [1, 2, 3, 4]
    add(plain, 21)
    plain.run("UPDATE products SET name = 'q' WHERE id IN (10, 21)")
    assert took(outbox, 4) == [21, 5, 6, 7, 8]
    assert took(outbox, 4) == [9, 10, 11, 12], "what has come before the claim before is in its place"
    assert sorted(took(outbox, 4)) == [10, 21]


def test_a_large_statement_of_large_rows_is_overtaken_too(
    plain: Plain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLAIM_LIMITS, "bytes", 1)
    plain.run("INSERT INTO products (id, company_id, name) SELECT n, 1, 'p' FROM generate_series(1, 3) AS n")
    assert took(outbox, 400) == [1]
    add(plain, 21)
    assert took(outbox, 400) == [21, 2]
    assert took(outbox, 400) == [3]


def test_what_comes_while_the_first_rows_of_a_large_statement_are_claimed_goes_before_the_others(
    plain: Plain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.run("INSERT INTO products (id, company_id, name) SELECT n, 1, 'p' FROM generate_series(1, 12) AS n")
    claim, coming = outbox._claim, [21]

    def claim_meanwhile(*asked: Any) -> Any:
        claimed = claim(*asked)
        while coming:
            add(plain, coming.pop())
        return claimed

    monkeypatch.setattr(outbox, "_claim", claim_meanwhile)
    assert sorted([*took(outbox, 4), *took(outbox, 4)]) == [1, 2, 3, 4, 5, 6, 7, 8, 21]


def took(outbox: Outbox, rows: int) -> list[int]:
    """Ids of the products that a round has delivered."""
    delivered = Delivered()
    run_once(outbox, delivered, rows)
    return [int(row.subject.removeprefix("product/")) for row in delivered.rows]


def test_what_was_not_delivered_stays(plain: Plain, outbox: Outbox) -> None:
    add(plain, 1, 2, 3)

    def first_only(rows: Sequence[Row]) -> list[int]:
        return [rows[0].id]

    left = plain.column("SELECT id FROM event_outbox ORDER BY id")[1:]

    assert run_once(outbox, Delivered(first_only), rows=10) == Relayed(3, 1, tuple(left))
    assert plain.column("SELECT subject FROM event_outbox ORDER BY id") == ["product/2", "product/3"]


def test_a_lost_broker_leaves_everything_in_the_outbox(plain: Plain, outbox: Outbox) -> None:
    add(plain, 1)

    def lost(rows: Sequence[Row]) -> list[int]:
        raise BrokerGone

    with pytest.raises(BrokerGone):
        run_once(outbox, Delivered(lost), rows=10)
    assert plain.one("SELECT count(*) FROM event_outbox") == 1


def test_no_transaction_is_open_while_the_broker_is_waited_for(plain: Plain, outbox: Outbox) -> None:
    add(plain, 1)
    states: list[tuple[Any, ...]] = []

    def look(rows: Sequence[Row]) -> list[int]:
        states.extend(
            plain.all("SELECT state, backend_xmin FROM pg_stat_activity WHERE application_name = 'citycache relay'")
        )
        return []

    run_once(outbox, Delivered(look), rows=10)

    assert states == [("idle", None)]


def test_a_row_that_was_committed_late_is_delivered_although_later_ids_went_before(
    plain: Plain, outbox: Outbox, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids don't follow the order of commits. The floor must not pass a transaction that is still open."""
    monkeypatch.setattr("events.floor.RAISE_SECONDS", 0.0)
    delivered = Delivered()
    with Plain(database, autocommit=False) as slow:
        slow.run("INSERT INTO products (id, company_id, name) VALUES (1, 1, 'slow')")
        for row_id in (2, 3, 4, 5):
            add(plain, row_id)
            run_once(outbox, delivered, rows=10)
        for _ in range(5):
            run_once(outbox, delivered, rows=10)
        slow.commit()
    run_once(outbox, delivered, rows=10)

    assert subjects(delivered.rows) == ["product/2", "product/3", "product/4", "product/5", "product/1"]


def test_the_floor_rises_past_what_is_gone_and_never_past_what_waits(
    plain: Plain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.floor.RAISE_SECONDS", 0.0)

    def refuse_the_second(rows: Sequence[Row]) -> list[int]:
        return [row.id for row in rows if row.subject != "product/2"]

    add(plain, 1, 2, 3)
    for _ in range(5):
        run_once(outbox, Delivered(refuse_the_second), rows=10)
    waits = plain.one("SELECT id FROM event_outbox")
    assert 0 < outbox.floor.id < waits

    for _ in range(5):
        run_once(outbox, Delivered(), rows=10)
    assert outbox.floor.id >= waits


def test_a_sequence_that_was_set_back_is_noticed(plain: Plain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.floor.RAISE_SECONDS", 0.0)
    add(plain, *range(1, 10))
    for _ in range(5):
        run_once(outbox, Delivered(), rows=10)
    assert outbox.floor.id > 0

    plain.run("ALTER TABLE event_outbox ALTER COLUMN id RESTART WITH 1")
    add(plain, 50)
    delivered = Delivered()
    for _ in range(3):
        run_once(outbox, delivered, rows=10)

    assert subjects(delivered.rows) == ["product/50"]


def test_the_claim_stays_fast_over_dead_rows_that_an_old_snapshot_keeps(
    plain: Plain, outbox: Outbox, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.floor.RAISE_SECONDS", 0.0)
    with Plain(database, autocommit=False) as old:
        old.connection.set_session(isolation_level="REPEATABLE READ")
        old.one("SELECT count(*) FROM event_outbox")
        plain.run("INSERT INTO products (id, company_id, name) SELECT n, 1, 'p' FROM generate_series(1, 20000) AS n")
        while run_once(outbox, Delivered(), rows=4000).claimed:
            pass
        for _ in range(3):
            run_once(outbox, Delivered(), rows=4000)
        touched = _pages_of_a_claim(plain, outbox)

    assert touched < 50


def _pages_of_a_claim(plain: Plain, outbox: Outbox) -> int:
    answer = plain.one(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {SQL['claim']}",
        {"floor": outbox.floor.id, "rows": 4000, "ids": None, **CLAIM_LIMITS},
    )
    return int(answer[0]["Plan"]["Shared Hit Blocks"]) + int(answer[0]["Plan"]["Shared Read Blocks"])


def test_at_rest_the_table_is_looked_at_only_when_a_transaction_has_ended(
    plain: Plain, outbox: Outbox, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.run("VACUUM")  # so that nothing of it begins now
    asked: list[str] = []
    run = outbox._run

    def noted(sql: str, *rest: Any, **more: Any) -> list[Any]:
        asked.append(sql)
        return run(sql, *rest, **more)

    monkeypatch.setattr(outbox, "_run", noted)
    for _ in range(100):
        assert outbox.claim(10) == []
    assert asked.count(SQL["claim"]) <= 10

    with Plain(database, autocommit=False) as older:
        add(older, 1)
        add(plain, 2)
        assert subjects(outbox.claim(10)) == ["product/2"]
        outbox.remove([row.id for row in outbox.claim(10)])
        for _ in range(20):
            assert outbox.claim(10) == []
        older.commit()
    assert subjects(outbox.claim(10)) == ["product/1"]


AT_REST = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
       AND query ~ 'SELECT await_transactions'"""


def test_at_rest_the_server_looks_and_what_it_waits_for_ends_the_statement(
    plain: Plain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.outbox.LOOKED_FOR_SECONDS", 60.0)  # more than a statement may take

    def write(_: threading.Event) -> None:
        until(lambda: plain.one(AT_REST), 10, "the server looks")
        add(plain, 1)

    assert not outbox.rest(0.01), "nobody knows whether there is nothing"
    with background(write):
        while not (rows := outbox.claim(10)):
            outbox.rest(0.01)
        assert not outbox.rest(0.01), "there may be more"
    assert subjects(rows) == ["product/1"]


def test_what_the_server_would_look_for_only_once_is_left_to_who_waits(plain: Plain, outbox: Outbox) -> None:
    for _ in range(3):
        assert outbox.claim(10) == []
    assert not outbox.rest(LOOKED_FOR_SECONDS / 1.9)
    assert outbox.rest(LOOKED_FOR_SECONDS / 2.1)


def test_lag_is_what_waits_and_for_how_long(plain: Plain, outbox: Outbox) -> None:
    assert outbox.lag() == Backlog(0, 0.0)

    add(plain, 1, 2)
    plain.run("UPDATE event_outbox SET occurred_at = occurred_at - interval '1 hour' WHERE subject = 'product/1'")

    lag = outbox.lag()
    assert (lag.rows, 3600 <= lag.oldest_seconds < 3660) == (2, True)


def test_lag_of_many_rows_follows_from_their_ids_without_counting_them(plain: Plain, outbox: Outbox) -> None:
    plain.run("INSERT INTO event_outbox (type, subject) SELECT 'x', 'city/1' FROM generate_series(1, 30000)")
    assert outbox.lag().rows == 30_000
    plan = "\n".join(plain.column("EXPLAIN " + SQL["lag"]))
    assert "Limit" in plan
    plain.run("DELETE FROM event_outbox WHERE id > (SELECT min(id) FROM event_outbox) + 5")
    assert outbox.lag().rows == 6


def test_a_row_that_is_passed_over_while_others_are_taken_is_an_alarm(
    plain: Plain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("events.relay.PASSED_SECONDS", 0.3)
    running = Running(lambda outbox: Delivered(lambda rows: [row.id for row in rows if row.subject != "product/1"]))

    def passes_it_over() -> bool:
        plain.run("UPDATE companies SET name = name || '.'")
        return any("waits for" in record.message for record in caplog.records if record.levelname == "ERROR")

    add(plain, 1)
    until(passes_it_over)
    running.stop()

    assert max(running.seen.waited) > 0.3


# The leader


def test_one_leads_and_the_next_one_only_when_it_is_gone(outbox: Outbox) -> None:
    second = Outbox(process.connection())

    assert outbox.lead()
    assert not second.lead()
    outbox.close()
    until(second.lead)
    second.close()


def test_a_leader_whose_session_ended_notices_before_it_delivers_again(plain: Plain, outbox: Outbox) -> None:
    outbox.lead()
    add(plain, 1)
    delivered = Delivered()
    plain.run("""
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'citycache relay'""")

    with pytest.raises(LeaderLost):
        run_once(outbox, delivered, rows=10)
    assert delivered.rows == []


# The loop


class Seen(RelayWatcher):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.leads: list[bool] = []
        self.failures: list[BaseException] = []
        self.waited: list[float] = []

    def led(self, leads: bool) -> None:
        self.leads.append(leads)

    def failed(self, failure: BaseException) -> None:
        self.failures.append(failure)

    def waits(self, seconds: float) -> None:
        self.waited.append(seconds)


class Running:
    """A relay in a thread."""

    def __init__(
        self, deliverer: Callable[[Outbox], Any], connect: Callable[[], Any] = process.connection, pace: Pace = PACE
    ) -> None:
        self.seen = Seen()
        self.relay = Relay(connect, deliverer, pace, away=(Away,), watcher=self.seen)
        self._thread = threading.Thread(target=self.relay.run)
        self._thread.start()

    def stop(self) -> None:
        self.relay.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()


def test_the_loop_delivers_until_it_is_stopped(plain: Plain) -> None:
    delivered = Delivered()
    running = Running(lambda outbox: delivered)
    add(plain, 1)
    until(lambda: subjects(delivered.rows) == ["product/1"])
    until(lambda: delivered.beats > 3, what="an idle relay keeps the broker's connection alive")
    add(plain, 2)
    until(lambda: len(delivered.rows) == 2)
    running.stop()

    assert delivered.closed == 1
    assert running.seen.leads == [True, False]


def test_the_loop_rests_on_the_server_and_wakes_for_each_row(plain: Plain) -> None:
    delivered = Delivered()
    running = Running(lambda outbox: delivered)
    try:
        while len(delivered.rows) < 3:
            until(lambda: plain.one(AT_REST), 10, "it rests")
            add(plain, len(delivered.rows) + 1)
            until(lambda: not plain.one("SELECT count(*) FROM event_outbox"), 10, "it was delivered")
        beats = delivered.beats
        until(lambda: delivered.beats > beats, 10, "the broker is listened to")
    finally:
        running.stop()


def test_the_loop_outlives_a_broker_that_comes_and_goes(plain: Plain) -> None:
    attempts = [0]
    delivered = Delivered()

    def flaky(outbox: Outbox) -> Delivered:
        attempts[0] += 1
        if attempts[0] < 4:
            raise BrokerGone
        return delivered

    running = Running(flaky)
    add(plain, 1)
    until(lambda: delivered.rows)
    running.stop()

    assert len(running.seen.failures) == 3
    assert all(isinstance(failure, EventError) for failure in running.seen.failures)


def test_the_loop_gets_a_new_connection_when_its_session_is_killed(plain: Plain) -> None:
    delivered = Delivered()
    running = Running(lambda outbox: delivered)
    add(plain, 1)
    until(lambda: delivered.rows)
    plain.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'citycache relay'")
    add(plain, 2)
    until(lambda: "product/2" in subjects(delivered.rows), what="after the first one, which may come again")
    running.stop()


def test_another_relay_takes_over_when_the_leader_stops(plain: Plain) -> None:
    first, second = Delivered(), Delivered()
    leader = Running(lambda outbox: first)
    add(plain, 1)
    until(lambda: first.rows)
    follower = Running(lambda outbox: second)
    add(plain, 2)
    until(lambda: len(first.rows) == 2)
    leader.stop()
    add(plain, 3)
    until(lambda: second.rows)
    follower.stop()

    assert subjects(second.rows) == ["product/3"]


@pytest.mark.parametrize("rows", [PACE.rows, 2])  # with claims of two rows others overtake all the time
def test_every_event_of_concurrent_writers_comes_and_those_of_a_row_in_order(
    plain: Plain, database: str, rows: int
) -> None:
    """Four writers with transactions of all lengths, some rolled back; a deliverer that fails now and then."""
    plain.run("INSERT INTO products (id, company_id, name) SELECT n, 1, '0' FROM generate_series(1, 6) AS n")
    dice = random.Random(7)

    def mostly(rows: Sequence[Row]) -> list[int]:
        if dice.random() < 0.1:
            raise BrokerGone
        return [row.id for row in rows]

    delivered = Delivered(mostly)
    running = Running(lambda outbox: delivered, pace=replace(PACE, rows=rows))
    end = time.monotonic() + 2.0

    def write(number: int) -> None:
        chance = random.Random(number)
        with Plain(database, autocommit=False) as writer:
            while time.monotonic() < end:
                for row_id in sorted(chance.sample(range(1, 7), chance.randint(1, 3))):
                    writer.run("UPDATE products SET name = (name::int + 1)::text WHERE id = %s", (row_id,))
                threading.Event().wait(chance.random() * 0.02)
                (writer.rollback if chance.random() < 0.2 else writer.commit)()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(20)
    until(lambda: plain.one("SELECT count(*) FROM event_outbox") == 0, 20)
    running.stop()

    last = dict(plain.all("SELECT 'product/' || id, name::int FROM products"))
    for subject, newest in last.items():
        numbers = [_name(row) for row in delivered.rows if row.subject == subject]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(newest + 1))


def _name(row: Row) -> int:
    return int(json.loads(row.after or "")["name"])
