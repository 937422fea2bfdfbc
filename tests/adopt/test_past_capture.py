"""Writes that come past capture are found soon, mended, and their table is named; nothing else is blamed for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from backend.app.adopting import doctor
from backend.app.health.judge import Judge
from backend.app.health.signs import Looker
from backend.app.observing import witness as witness_module
from backend.app.observing.auditor import Auditor
from backend.app.worker import batch
from events import contract
from tests.adopt import shop
from tests.adopt.following import adopt_here, beside
from tests.adopt.marketplace import Marketplace
from tests.adopt.shop import SHOP, TABLES
from tests.conftest import configured_as
from tests.plain import Plain
from tests.waiting import until

REPLICA = "SET session_replication_role = replica"
DELIVERED = """
    WITH gone AS (DELETE FROM "City Cache".event_outbox RETURNING *)
    INSERT INTO "City Cache".event_log (position, published_at, event_id, type, subject, occurred_at, before, after)
    SELECT row_number() OVER (ORDER BY id) + coalesce((SELECT max(position) FROM "City Cache".event_log), -1),
           clock_timestamp(), event_id, type, subject, occurred_at, before, after FROM gone
    RETURNING event_id::text, type, subject, occurred_at::text"""
OBSERVED = """
    INSERT INTO "City Cache".observations (seconds, captured, published, applied, patched, latency)
    VALUES (5, 0, 0, 0, 0, '{}')"""
REFUSING = """
    CREATE FUNCTION "City Cache".refuses() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF coalesce(NEW.product_id, OLD.product_id) = 43 THEN RAISE 'nobody writes this one'; END IF;
        RETURN coalesce(NEW, OLD);
    END $$;
    CREATE TRIGGER refuses BEFORE INSERT OR UPDATE OR DELETE ON "City Cache".product_city_mapping
        FOR EACH ROW EXECUTE FUNCTION "City Cache".refuses()"""
PAST = {
    "a change": ("UPDATE shop.sellers SET state = 'shut' WHERE id = 7", "shop.sellers"),
    "a change of a partition": (
        "UPDATE shop.goods SET visible = NOT visible WHERE id = 43",
        "shop.goods_1a",
    ),
    "a creation": (
        "INSERT INTO shop.goods (id, part, seller, art, visible) SELECT 90000, 1, id, 'Ware', true FROM shop.sellers"
        " WHERE id IN (SELECT seller FROM shop.goods WHERE visible) ORDER BY id LIMIT 1",
        "shop.goods_1b",
    ),
    "a deletion": ("DELETE FROM shop.goods WHERE id = 41", "shop.goods"),
    "a partition emptied": ("TRUNCATE shop.goods_0", "shop.goods"),
    "a city": ('UPDATE "Orte"."Städte" SET offen = NOT offen WHERE "Nr" = 3', '"Orte"."Städte"'),
    "a watched row": ('UPDATE shop.addresses SET "stadt Nr" = 1 + "stadt Nr" % 10', "shop.addresses"),
}


@pytest.fixture
def market(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marketplace]:
    """Adopted and right, the tables older than the witness remembers."""
    with Plain(empty_database) as plain:
        plain.run(TABLES)
    market = Marketplace(empty_database, SHOP / "catalog.toml")
    monkeypatch.setattr(witness_module, "LOOK_SECONDS", 0.2)
    with beside(market, monkeypatch), configured_as(monkeypatch, AUDIT_GRACE_SECONDS="0.2"):
        adopt_here()
        yield market


@pytest.fixture
def plain(market: Marketplace) -> Iterator[Plain]:
    with Plain(market.url) as plain:
        yield plain


@pytest.fixture
def auditor() -> Auditor:
    """One whose sweeps never come: what it finds, it finds by the witness. It has looked once."""
    auditor = Auditor(passed=lambda instant: True)
    auditor._next_step = float("inf")
    auditor.run_once()
    return auditor


def counted(plain: Plain) -> None:
    """The server's counters, by which the witness looks, have all that this session wrote."""
    plain.run("SELECT pg_stat_force_next_flush()")


def named(plain: Plain) -> set[str]:
    return set(plain.column('SELECT table_name FROM "City Cache".passed_tables'))


def looks(auditor: Auditor, number: int = 4) -> None:
    for _ in range(number):
        auditor._next_written = 0.0
        auditor.run_once()
        for suspect in auditor.suspects.values():
            suspect.due = 0.0


def delivered(plain: Plain, is_applied: bool = True) -> None:
    """Events are in the log, and applied unless they are lost behind it."""
    rows = plain.all(DELIVERED)
    if is_applied and rows:
        hints = [contract.hint(contract.event(*row, None, None, None)) for row in rows]
        batch.apply_batch(batch.Batch(hints), str(uuid4()))


@pytest.mark.parametrize("kind", sorted(PAST))
def test_a_write_past_capture_is_found_mended_and_its_table_named(
    market: Marketplace, plain: Plain, auditor: Auditor, kind: str
) -> None:
    # Given a session whose triggers are silent
    statement, table = PAST[kind]
    plain.run(REPLICA)
    plain.run(statement)
    assert plain.one('SELECT count(*) FROM "City Cache".event_outbox') == 0
    assert shop.violations(plain) != []

    # Then the witness finds it, and names the table
    until(lambda: (looks(auditor), table in named(plain))[1], 20, f"{table} is named")
    assert named(plain) == {table}

    # And health and doctor say so, and all rows come right
    wrong = [one for one in Judge().judge(Looker().look()).wrong if one.kind == "table_passed"]
    assert [one.subject for one in wrong] == [table]
    told = json.loads(market.run("doctor", "--json").out)
    assert any(table in finding["found"] for finding in told["findings"] if finding["name"] == "past capture")
    auditor._next_step = 0.0
    until(lambda: (auditor.run_once(), shop.violations(plain) == [])[1], 30, "the caches are right")


def test_triggers_that_were_off_for_a_while_leave_a_trace(plain: Plain, auditor: Auditor) -> None:
    plain.run("ALTER TABLE shop.sellers DISABLE TRIGGER USER")
    plain.run("UPDATE shop.sellers SET state = 'shut' WHERE id = 7")
    plain.run("ALTER TABLE shop.sellers ENABLE TRIGGER USER")
    until(lambda: (looks(auditor), named(plain))[1], 20)
    assert named(plain) == {"shop.sellers"}


def test_a_row_that_stays_wrong_is_told_of_and_counted_once(plain: Plain, auditor: Auditor) -> None:
    # Given a row that a write past capture has made wrong, and that cannot be mended
    plain.run(REFUSING)
    plain.run(REPLICA)
    plain.run(PAST["a change of a partition"][0])
    until(lambda: (looks(auditor), named(plain))[1], 20)

    # When it is found again and again
    for _ in range(3):
        auditor._next_step = 0.0
        for sweep in auditor._sweeps:
            sweep.not_before = 0.0
        looks(auditor, 3)

    # Then one row is told of, and one was found in all
    assert plain.one('SELECT sum(rows) FROM "City Cache".passed_tables') == 1
    assert plain.all('SELECT id, cache, key FROM "City Cache".audit_findings') == [(1, "products", "43")]


def test_a_row_that_capture_has_told_of_just_before_is_no_alibi(plain: Plain, auditor: Auditor) -> None:
    plain.run("UPDATE shop.sellers SET title = 'new', state = 'live' WHERE id = 7")
    delivered(plain)
    plain.run(REPLICA)
    plain.run("UPDATE shop.sellers SET state = 'shut' WHERE id = 7")
    until(lambda: (looks(auditor), named(plain))[1], 20)
    assert named(plain) == {"shop.sellers"}


@pytest.mark.parametrize("disturbance", ["lost", "tampered", "lost, then written again without an event"])
def test_rows_that_are_wrong_for_another_reason_blame_no_table(
    plain: Plain, auditor: Auditor, disturbance: str
) -> None:
    # Given captured writes whose rows are wrong because events were lost, or the cache was tampered with
    if disturbance == "tampered":
        plain.run("UPDATE shop.goods SET secret = secret || 'x'")
        plain.run(
            """UPDATE "City Cache".product_city_mapping SET city_id = 1 + city_id % 10 WHERE product_id % 5 = 0"""
        )
    else:
        for statement in ("UPDATE shop.sellers SET state = 'shut' WHERE id = 7",
                          "UPDATE shop.goods SET visible = NOT visible WHERE id % 13 = 4",
                          "DELETE FROM shop.goods WHERE id % 101 = 3",
                          'UPDATE shop.addresses SET "stadt Nr" = 1 + "stadt Nr" % 10 WHERE id = 3'):  # fmt: skip
            plain.run(statement)
        delivered(plain, is_applied=False)
    if "again" in disturbance:
        plain.run("UPDATE shop.goods SET secret = secret || 'x'")

    # Then they are found and mended, and no table is named
    auditor._next_step = 0.0
    until(lambda: (looks(auditor), shop.violations(plain) == [])[1], 30, "the caches are right")
    looks(auditor)
    assert plain.one('SELECT count(*) FROM "City Cache".audit_findings') > 0
    assert named(plain) == set()


def test_captured_writes_blame_no_table(plain: Plain, auditor: Auditor) -> None:
    for number, statement in enumerate(shop.WRITES):
        plain.run(statement.format(n=17 + number * 31))
        counted(plain)
        looks(auditor, 3)  # the event still waits: what is suspected at the first is judged at the second and the third
        delivered(plain)
        looks(auditor, 1)
    assert plain.one('SELECT count(*) FROM "City Cache".audit_findings') > 0
    assert named(plain) == set()


def test_unused_updates_and_writes_of_the_same_values_past_capture_are_no_harm(plain: Plain, auditor: Auditor) -> None:
    plain.run(REPLICA)
    plain.run("UPDATE shop.goods SET secret = 'y'")
    plain.run("UPDATE shop.sellers SET state = state")
    counted(plain)
    looks(auditor, 6)
    assert plain.one('SELECT count(*) FROM "City Cache".audit_findings') == 0


def test_that_nobody_looks_for_such_writes_is_said(market: Marketplace, plain: Plain) -> None:
    def told() -> tuple[bool | None, str]:
        found = next(one for one in doctor.look() if one.name == "past capture")
        return found.is_well, Judge().judge(Looker().look()).state("capture")

    # Given no observer at all
    assert told() == (None, "unknown")
    said = market.run("doctor")
    assert "[unknown] past capture: nobody looks" in said.out
    assert said.code == 0
    assert json.loads(market.run("doctor", "--json").out)["well"] is None

    # And one whose auditor looks, or does not
    plain.run(OBSERVED)
    assert told() == (None, "well")
    plain.run("""INSERT INTO "City Cache".audit_minutes (minute, cache) VALUES (now(), 'products')""")
    assert told() == (True, "well")
    plain.run("""UPDATE "City Cache".observations SET at = now() - interval '1 minute'""")
    assert told() == (None, "unknown")


def test_a_table_that_nobody_writes_is_not_read(
    plain: Plain, auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks(auditor)
    monkeypatch.setattr(witness_module, "_young", lambda *_: pytest.fail("a table was read"))
    monkeypatch.setattr(auditor, "_attempt", lambda step, *_: step())
    looks(auditor)
