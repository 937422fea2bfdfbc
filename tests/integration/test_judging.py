"""System or key: what fails for every key holds events, what fails for one alone is buried, and the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import pytest

from backend.app import db, settings
from backend.app.caches.patch import LOCK_CLASS
from backend.app.errors import EveryKeyFails, LanesHeld
from backend.app.worker import patching
from backend.app.worker.batch import Batch, apply_batch
from backend.app.worker.breaker import breaker
from events.contract import Hint
from tests import oracle
from tests.plain import Plain

NOW = "2026-11-24T00:00:00Z"
TRIGGER = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; RETURN coalesce(NEW, OLD); END $$;"
    " CREATE TRIGGER refuse BEFORE {when} ON {table} FOR EACH ROW {which} EXECUTE FUNCTION refuse()"
)


@pytest.fixture
def plain(configured_database: None, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plain]:
    """Three cities, 30 companies in the first, three products each; half of all mapped, the others not."""
    monkeypatch.setattr(patching, "PAUSES_ALONE", (0.0, 0.0))
    with Plain(database) as plain:
        plain.run("INSERT INTO cities (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        plain.run("INSERT INTO companies (id, name, city_id) SELECT n, 'c', 1 FROM generate_series(1, 30) AS n")
        plain.run("INSERT INTO products (id, name, company_id) SELECT n, 'p', 1 + n % 30 FROM generate_series(1, 90) n")
        hears("city", 1, 2, 3)
        hears("company", *range(1, 16))
        breaker.forgive()
        yield plain


def hears(noun: str, *ids: int) -> dict[str, object]:
    """A batch with one event for each id comes in."""
    return apply_batch(Batch([Hint(noun, row_id, str(uuid4()), NOW, None) for row_id in ids]), str(uuid4()))


def buried(plain: Plain) -> list[str]:
    return plain.column("SELECT subject FROM dead_letters ORDER BY id")


def refuse(plain: Plain, table: str, which: str = "", what: str = "RAISE 'refused'", when: str = "INSERT") -> None:
    plain.run(TRIGGER.format(table=table, which=which and f"WHEN ({which})", what=what, when=when))


def renamed(what: str, name: str) -> tuple[str, str]:
    return (f"ALTER {what} {name} RENAME TO elsewhere", f"ALTER {what} elsewhere RENAME TO {name}")


def refused(table: str, error: str = "P0001", when: str = "INSERT") -> tuple[str, str]:
    what = f"RAISE 'no' USING ERRCODE = '{error}'"
    return (TRIGGER.format(table=table, which="", what=what, when=when), "DROP FUNCTION refuse CASCADE")


SYSTEM = {  # what is wrong for every key → how it is made, and how it is mended
    "a table of the caches": renamed("TABLE", "product_city_mapping"),
    "a table of the counts": renamed("TABLE", "city_counts"),
    "the truth": renamed("VIEW", "product_city_truth"),
    "the ledger": renamed("TABLE", "task_runs"),
    "the dead letters": renamed("TABLE", "dead_letters"),
    "a column": (
        "ALTER TABLE product_city_mapping RENAME COLUMN patch_id TO other",
        "ALTER TABLE product_city_mapping RENAME COLUMN other TO patch_id",
    ),
    "the patches": (
        "ALTER TABLE patches ADD CONSTRAINT refuse CHECK (task = 'nobody') NOT VALID",
        "ALTER TABLE patches DROP CONSTRAINT refuse",
    ),
    "every row": refused("product_city_mapping"),
    "every row, as if its values were at fault": refused("product_city_mapping", "22003"),
    "every count": refused("city_counts", when="INSERT OR UPDATE"),
    "every place on the disk": refused("product_city_mapping", "53100"),
    "every try, for the sake of others": refused("product_city_mapping", "40P01"),
}


@pytest.mark.parametrize("products", [range(16, 17), range(46, 61)], ids=["one event", "many events"])
@pytest.mark.parametrize("wrong", SYSTEM)
def test_what_fails_for_every_key_holds_events_and_buries_none(plain: Plain, wrong: str, products: range) -> None:
    break_it, mend_it = SYSTEM[wrong]
    plain.run(break_it)

    with pytest.raises(db.DatabaseAway):
        hears("product", *products)

    plain.run(mend_it)
    assert buried(plain) == []
    hears("product", *range(1, 91))
    hears("company", *range(1, 31))
    assert oracle.violations(plain) == []


@pytest.mark.parametrize(
    ("setting", "value"), [("transaction_isolation", "'repeatable read'"), ("transaction_read_only", "on")]
)
def test_a_setting_under_which_no_key_can_be_patched_buries_none(
    plain: Plain, database: str, setting: str, value: str
) -> None:
    """Connections may ask for what they need: then nothing fails at all."""
    name = database.rpartition("/")[2].partition("?")[0]
    plain.run(f"ALTER DATABASE {name} SET default_{setting} = {value}")
    db.dispose()

    with suppress(db.DatabaseAway):
        hears("product", 20)

    plain.run(f"ALTER DATABASE {name} RESET default_{setting}")
    db.dispose()
    hears("product", 20)
    assert buried(plain) == []
    assert plain.one("SELECT count(*) FROM product_city_mapping WHERE product_id = 20") == 1


@pytest.mark.parametrize(("table", "noun"), [("product_city_mapping", "product"), ("company_city_mapping", "company")])
@pytest.mark.parametrize(
    "what",
    [
        "RAISE 'this row is cursed'",
        "RAISE 'no rights' USING ERRCODE = '42501'",
        "RAISE 'no such table' USING ERRCODE = '42P01'",
        "RAISE 'read only' USING ERRCODE = '25006'",
        "RAISE 'too large' USING ERRCODE = '54000'",
        "PERFORM 1 / 0",
    ],
)
def test_what_fails_for_one_key_alone_is_buried_whatever_the_error_says(
    plain: Plain, table: str, noun: str, what: str
) -> None:
    refuse(plain, table, f"NEW.{noun}_id = 20", what)

    hears("company", *range(16, 31))
    hears("product", *range(1, 91))

    assert buried(plain) == [f"{noun}/20"] * (2 if noun == "product" else 1)
    assert plain.one(f"SELECT count(*) FROM {table}") == {"product": 89, "company": 29}[noun]


def test_the_only_event_of_a_key_that_fails_alone_is_buried(plain: Plain) -> None:
    refuse(plain, "product_city_mapping", "NEW.product_id = 20")

    hears("product", 20)

    assert plain.all("SELECT kind, subject, reason, attempts FROM dead_letters") == [
        ("failed", "product/20", "the patch of product/20 fails: refused", 3)
    ]


def test_a_constraint_that_one_key_violates_buries_that_key(plain: Plain) -> None:
    plain.run("ALTER TABLE product_city_mapping ADD CONSTRAINT odd CHECK (product_id <> 20) NOT VALID")

    hears("product", 19, 20, 21)

    assert buried(plain) == ["product/20"]


def test_keys_are_judged_even_where_there_is_no_other_key(plain: Plain) -> None:
    """The first product of a catalog: an invented one shows whether others would work."""
    plain.run("TRUNCATE product_city_mapping")
    refuse(plain, "product_city_mapping", "NEW.product_id = 20")
    hears("product", 20)
    assert buried(plain) == ["product/20"]

    plain.run("DROP FUNCTION refuse CASCADE")
    refuse(plain, "product_city_mapping")
    with pytest.raises(EveryKeyFails):
        hears("product", 21)
    assert buried(plain) == ["product/20"]


def test_a_product_that_fails_holds_up_neither_its_company_nor_its_neighbours(plain: Plain) -> None:
    refuse(plain, "product_city_mapping", "NEW.product_id = 20", when="INSERT OR UPDATE")
    plain.run("UPDATE companies SET city_id = 2 WHERE id = 21")

    hears("company", 21)

    assert buried(plain) == ["product/20"]
    assert plain.column("SELECT product_id FROM product_city_mapping WHERE company_id = 21 ORDER BY 1") == [50, 80]


def test_a_rehearsal_leaves_no_trace(plain: Plain) -> None:
    tables = ("product_city_mapping", "company_city_mapping", "city_counts", "active_cities_cache", "patches")
    sums = "SELECT " + ", ".join(f"(SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {t} t)" for t in tables)
    refuse(plain, "product_city_mapping", "NEW.product_id = 20")
    before = plain.all(sums)

    hears("product", 20)

    assert plain.all(sums) == before


def test_a_letter_that_cannot_be_kept_as_it_is_is_kept_without_what_others_wrote(plain: Plain) -> None:
    plain.run("ALTER TABLE dead_letters ADD CONSTRAINT odd CHECK (payload <> 'odd')")
    letter = patching.DeadLetter("unreadable", "wrong", payload="odd")

    apply_batch(Batch([Hint("product", 20, "e", NOW, None)], [letter]), str(uuid4()))

    assert plain.all("SELECT kind, payload FROM dead_letters") == [("unreadable", None)]


# Time


@pytest.fixture
def hasty(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plain]:
    """A statement may take half a second."""
    monkeypatch.setattr(db, "STATEMENT_MS", 500)
    db.dispose()
    db.engine("hasty", statement_ms=500)
    yield plain
    breaker.forgive()
    db.dispose()


def test_a_batch_that_takes_too_long_as_a_whole_is_applied_in_smaller_parts(hasty: Plain) -> None:
    refuse(hasty, "product_city_mapping", what="PERFORM pg_sleep(0.02)")

    hears("product", *range(1, 91))

    assert buried(hasty) == []
    assert breaker.most(4_000) < 90, "and the next batches are smaller as well"
    hears("company", *range(1, 31))
    assert oracle.violations(hasty) == []


def test_a_key_that_always_takes_too_long_is_buried_while_others_go_through(hasty: Plain) -> None:
    refuse(hasty, "product_city_mapping", "NEW.product_id = 20", what="PERFORM pg_sleep(10)")

    hears("product", *range(16, 31))

    assert buried(hasty) == ["product/20"]
    assert hasty.one("SELECT count(*) FROM product_city_mapping WHERE product_id BETWEEN 16 AND 30") == 14
    assert breaker.most(4_000) == 4_000, "it was not their number"


def test_keys_of_which_each_takes_too_long_are_held(hasty: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patching.rehearsal, "STATEMENT_MS", 500)
    refuse(hasty, "product_city_mapping", what="PERFORM pg_sleep(10)")

    with pytest.raises(EveryKeyFails):
        hears("product", 20, 21)

    assert buried(hasty) == []


def test_a_lane_that_somebody_holds_buries_nothing(hasty: Plain, database: str) -> None:
    lanes = settings.settings().patch_lanes
    with Plain(database) as holder:
        holder.run("SELECT pg_advisory_lock(%s, %s)", [LOCK_CLASS, 20 % lanes])
        with pytest.raises(LanesHeld):
            hears("product", 20)
    hears("product", 20)

    assert buried(hasty) == []
    assert hasty.one("SELECT count(*) FROM product_city_mapping WHERE product_id = 20") == 1


@pytest.mark.parametrize("statement", ["SELECT pg_sleep(2)", "LOCK TABLE cities IN ACCESS EXCLUSIVE MODE NOWAIT"])
def test_a_deadline_is_told_from_a_server_that_is_away(hasty: Plain, database: str, statement: str) -> None:
    with Plain(database) as holder:
        holder.run("BEGIN; LOCK TABLE cities IN ACCESS SHARE MODE")
        with pytest.raises(db.TooLong), db.transaction() as connection:
            connection.exec_driver_sql(statement)
        holder.run("ROLLBACK")


def test_a_transaction_over_whole_tables_may_take_longer(hasty: Plain) -> None:
    with db.transaction() as connection:
        db.may_take_long(connection)
        connection.exec_driver_sql("SELECT pg_sleep(0.7)")
