"""`citycache preview`: what it shows is what happens, nothing is committed, and nobody is held up for long."""

from __future__ import annotations

import json
import random
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from backend.app import db
from backend.app.caches import rebuilds
from backend.app.caches.apply import WideHooks, drain_wide
from backend.app.caches.keys import Cause
from backend.app.cli import group
from backend.app.errors import StatementFailed, TooLong
from backend.app.preview import captured
from backend.app.preview.outcome import preview
from backend.app.preview.trial import TrialLimits, trial
from backend.app.settings import settings
from backend.app.worker.batch import Batch, apply_batch
from events import contract
from tests import catalogs
from tests.background import background
from tests.integration.api import patch_all
from tests.plain import Plain, dsn
from tests.waiting import until

SEED: Final = 14
ROUNDS: Final = 60
EVERYTHING: Final = 1_000_000  # rows to name
PATIENT: Final = TrialLimits(lock=5, all=60)
CAUSE: Final = Cause("test")
NOUNS: Final = ("products", "companies", "cities")
TABLES: Final = {
    "product_city_mapping": "SELECT product_id, city_id, company_id, kind FROM product_city_mapping",
    "company_city_mapping": "SELECT company_id, city_id FROM company_city_mapping",
    "city_counts": "SELECT city_id, products_count, services_count, companies_count FROM city_counts",
}


@pytest.fixture
def catalog(configured_database: None, plain: Plain, monkeypatch: pytest.MonkeyPatch) -> Plain:
    """Companies of more than five products take a wide patch."""
    monkeypatch.setenv("WIDE_PATCH_KEYS", "5")
    settings.cache_clear()
    catalogs.many(plain, cities=6, companies=12, products=60)
    patch_all(plain)
    return plain


def caches(plain: Plain) -> dict[str, dict[int, tuple[Any, ...]]]:
    return {table: {row[0]: row[1:] for row in plain.all(query)} for table, query in TABLES.items()}


def active(plain: Plain) -> dict[str, set[int]]:
    return {kind: set(ids) for kind, ids in plain.all("SELECT cache_type, active_city_ids FROM active_cities_cache")}


def follow(plain: Plain) -> None:
    """What relay and worker do."""
    events = plain.all("SELECT type, subject FROM event_outbox ORDER BY id")
    hints = [contract.hint(contract.slim_event("x", kind, subject, "", None, "")) for kind, subject in events]
    apply_batch(Batch(hints), "3f333df6-90a4-4fda-8dd3-9485d27cee36")
    drain_wide("test", "3f333df6-90a4-4fda-8dd3-9485d27cee36", WideHooks(_everything, lambda products: None))
    plain.run("DELETE FROM event_outbox")


def _everything() -> None:
    for what in ("products", "companies"):
        rebuilds.rebuild(what, CAUSE)  # type: ignore[arg-type]
    rebuilds.rebuild_counts()


def statement(dice: random.Random) -> str:
    """One that moves something, mostly."""
    product, company, city = dice.randint(1, 66), dice.randint(1, 14), dice.randint(1, 8)
    some = dice.choice((f"id = {product}", f"company_id = {company}", f"id % 7 = {dice.randint(0, 6)}", "true"))
    kind = dice.choice(("product", "service"))
    known = f"(SELECT id FROM companies WHERE id = {company})"
    where = dice.choice((f"(SELECT id FROM cities WHERE id = {city})", "NULL"))
    return dice.choice(
        (
            f"UPDATE products SET is_active = NOT is_active WHERE {some}",
            f"UPDATE products SET kind = '{kind}' WHERE {some}",
            f"UPDATE products SET company_id = coalesce({known}, company_id) WHERE {some}",
            f"DELETE FROM products WHERE id = {product}",
            f"INSERT INTO products (company_id, name, kind) SELECT id, 'n', '{kind}' FROM {known} AS known",
            f"UPDATE companies SET city_id = {where} WHERE id % {dice.randint(1, 5)} = 0",
            f"UPDATE companies SET is_active = NOT is_active WHERE id = {company}",
            f"UPDATE companies SET name = 'other' WHERE id = {company}",
            f"DELETE FROM companies WHERE id = {company}",
            f"INSERT INTO companies (name, city_id) VALUES ('n', {where})",
            f"DELETE FROM cities WHERE id = {city}",
            "INSERT INTO cities (name) VALUES ('n')",
            f"DO $$ BEGIN UPDATE products SET is_active = false WHERE id = {product};"
            " EXCEPTION WHEN division_by_zero THEN NULL; END $$",  # in a savepoint
            "TRUNCATE products" if not dice.randint(0, 5) else "SELECT 1",
        )
    )


def test_what_it_shows_is_what_happens(catalog: Plain, database: str) -> None:
    """Random statements, previewed beside somebody whose writes wait in the outbox, then run and followed."""
    dice, moved = random.Random(SEED), 0
    with Plain(database, autocommit=False) as other:
        for number in range(ROUNDS):
            text = ";\n".join(statement(dice) for _ in range(dice.randint(1, 3)))
            other.run("INSERT INTO cities (id, name) VALUES (1000, 'n')")  # not committed: nobody's business
            given = {noun: catalog.all(f"SELECT last_value, is_called FROM {noun}_id_seq")[0] for noun in NOUNS}
            before, listed = caches(catalog), active(catalog)
            shown = preview(text, PATIENT, EVERYTHING)
            assert caches(catalog) == before
            other.rollback()
            for noun in NOUNS:  # no rollback takes back what a sequence has given out
                catalog.run(f"SELECT setval('{noun}_id_seq', %s, %s)", given[noun])
            catalog.run(text)
            follow(catalog)
            assert _differences(before, caches(catalog)) == _shown(shown), (number, text)
            assert (shown.enter, shown.leave) == _crossed(listed, active(catalog)), (number, text)
            moved += shown.rows_changed
    assert moved > ROUNDS


def _differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[int, Any]]:
    return {
        table: {
            key: (before[table].get(key), after[table].get(key))
            for key in before[table].keys() | after[table].keys()
            if before[table].get(key) != after[table].get(key)
        }
        for table in TABLES
    }


def _shown(shown: Any) -> dict[str, dict[int, Any]]:
    found: dict[str, dict[int, Any]] = {table: {} for table in TABLES}
    for row in shown.rows:
        found[row.table][row.key] = (_values(row.table, row.before), _values(row.table, row.after))
    for move in shown.counts:
        found["city_counts"][move.city_id] = (_values("city_counts", move.before), _values("city_counts", move.after))
    sides = {table: sum(shown.tables[table].values()) for table in TABLES}
    assert {table: len(rows) for table, rows in found.items()} == sides
    return found


ORDER: Final = {
    "product_city_mapping": ("city_id", "company_id", "kind"),
    "company_city_mapping": ("city_id",),
    "city_counts": ("products_count", "services_count", "companies_count"),
}


def _values(table: str, row: dict[str, Any] | None) -> tuple[Any, ...] | None:
    return None if row is None else tuple(row[column] for column in ORDER[table])


def _crossed(before: dict[str, set[int]], after: dict[str, set[int]]) -> tuple[dict[str, Any], dict[str, Any]]:
    enter = {kind: sorted(after[kind] - before[kind]) for kind in ("products", "companies")}
    return enter, {kind: sorted(before[kind] - after[kind]) for kind in ("products", "companies")}


def test_events_of_others_are_not_taken_for_its_own(catalog: Plain, database: str) -> None:
    """Others commit while it runs, and have events in the outbox before and after its own."""
    catalog.run("UPDATE products SET is_active = false WHERE id = 1")
    text = """
        UPDATE products SET is_active = false WHERE id = 2;
        SELECT pg_advisory_xact_lock(7);
        UPDATE products SET is_active = false WHERE id = 3"""
    with Plain(database, autocommit=False) as other:
        other.run("SELECT pg_advisory_xact_lock(7)")

        def meanwhile(stop: threading.Event) -> None:
            until(lambda: catalog.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"))
            catalog.run("UPDATE products SET is_active = false WHERE id BETWEEN 4 AND 9")
            other.rollback()

        with background(meanwhile):
            shown = preview(text, PATIENT, EVERYTHING)
    assert (shown.keys["products"], [row.key for row in shown.rows]) == (2, [2, 3])


REFUSED: Final = (
    "COMMIT", "BEGIN", "ROLLBACK", "END", "ABORT", "START TRANSACTION", "SAVEPOINT s", "PREPARE TRANSACTION 'p'",
    "UPDATE products SET is_active = false; COMMIT; SELECT 1", "DELETE FROM products; COMMIT AND CHAIN",
    "COPY products FROM STDIN", "COPY products TO STDOUT", "VACUUM products",
    "CREATE INDEX CONCURRENTLY i ON products (name)",
    "UPDATE products SET is_active = false; CALL ends()", "DO $$ BEGIN DELETE FROM products; COMMIT; END $$",
    "DO $run$ BEGIN DELETE FROM products; COMMIT; END $run$", "$run$; COMMIT; $run$", "'; COMMIT; --",
    "\\copy products from x",
    "UPDATE nothing SET x = 1", "UPDATE products SET company_id = -5", "SELECT 1/0",
    "DROP TABLE product_city_mapping; DELETE FROM products",
    "CREATE DATABASE d", "EXECUTE nothing", "(", "UPDATE products SET kind = %s",
)  # fmt: skip


def test_nothing_is_committed_whatever_the_statements_say(catalog: Plain) -> None:
    catalog.run("CREATE PROCEDURE ends() LANGUAGE plpgsql AS $$ BEGIN DELETE FROM products; COMMIT; END $$")
    before = catalog.all("SELECT id, is_active, company_id FROM products ORDER BY id"), caches(catalog)
    for text in REFUSED:
        done = run(text)
        assert (text, done.exit_code, done.output.count("\n")) == (text, 2, 1), done.output
        assert done.output.startswith("citycache: "), text
    for text in (
        "DELETE FROM products", "TRUNCATE products CASCADE", "DROP TABLE catalog_x; DELETE FROM products",
        "SET ROLE pg_monitor; RESET ROLE; SET search_path = pg_temp; SET statement_timeout = 0; DELETE FROM products",
        "SET lock_timeout = 0; SET session_replication_role = replica; DELETE FROM products",
        "DELETE FROM products WHERE name <> '%s'",
    ):  # fmt: skip
        assert run(text).exit_code in (0, 2), text
    assert before == (catalog.all("SELECT id, is_active, company_id FROM products ORDER BY id"), caches(catalog))
    assert catalog.one("SELECT count(*) FROM event_outbox") == 0


def run(*arguments: str, standard_input: bytes | None = None) -> Result:
    """The command, with errors as `main` tells them."""
    done = CliRunner().invoke(group, ["preview", *arguments], input=standard_input)
    if isinstance(done.exception, StatementFailed):
        done.exit_code, done.stdout_bytes = 2, f"citycache: {done.exception}\n".encode()
        done.output_bytes = done.stdout_bytes
    return done


def test_says_the_line_and_takes_statements_from_everywhere(catalog: Plain, tmp_path: Path) -> None:
    text = "UPDATE products SET is_active = false WHERE id = 1;\n\nUPDATE nowhere SET x = 1"
    file = tmp_path / "change.sql"
    file.write_text(text)
    given = {"standard_input": text.encode()}
    for done in (run(text), run("-f", str(file)), run("-", **given), run("-f", "-", **given)):
        assert (done.exit_code, done.output) == (2, 'citycache: line 3: relation "nowhere" does not exist\n')
    assert run("-f", str(tmp_path / "none")).exit_code == 2
    assert run().exit_code == run("SELECT 1", "-f", str(file)).exit_code == run(" ").exit_code == 2
    assert run("-", standard_input=b"\xff").exit_code == run("-", standard_input=b"SELECT \0").exit_code == 2
    assert (
        run("SELECT 1", "--lock-timeout", "0").exit_code
        == run("SELECT 1", "--statement-timeout", "soon").exit_code
        == 2
    )


def test_answers_for_people_and_scripts_and_says_no_above_most(catalog: Plain) -> None:
    text = "UPDATE companies SET city_id = NULL WHERE city_id = 1"
    shown = json.loads(run(text, "--json", "--rows", "2").output)
    companies = catalog.column("SELECT company_id FROM company_city_mapping WHERE city_id = 1")
    products = catalog.one("SELECT count(*) FROM product_city_mapping WHERE city_id = 1")
    assert shown["rows_changed"] == len(companies) + products
    assert shown["tables"]["company_city_mapping"] == {"appear": 0, "disappear": len(companies), "move": 0}
    assert shown["active_cities"]["products"] == {"enter": [], "leave": [1]}
    assert shown["keys"] == {"products": products, "companies": len(companies), "cities": 0, "everything": False}
    assert (shown["counts"][0]["city_id"], shown["counts"][0]["after"]["products_count"]) == (1, 0)
    assert [row["table"] for row in shown["rows"]] == ["product_city_mapping"] * 2 + ["company_city_mapping"] * 2
    assert run(text, "--most", str(shown["rows_changed"])).exit_code == 0
    done = run(text, "--most", str(shown["rows_changed"] - 1))
    assert (done.exit_code, "active cities of products: 1 leave: 1" in done.output) == (1, True)
    assert run("SELECT 1", "--most", "0").exit_code == 0


def test_gives_up_its_locks_within_its_deadline_and_waits_for_none_beyond_its_own(
    catalog: Plain, database: str
) -> None:
    """A second writer waits for no longer than that, also where statements switch deadlines off."""
    for text in (
        "UPDATE products SET name = 'x' WHERE id = 1; SELECT pg_sleep(30)",
        "SET statement_timeout = 0; UPDATE products SET name = 'x' WHERE id = 1; SELECT pg_sleep(30)",
    ):

        def hold(stop: threading.Event, text: str = text) -> None:
            with pytest.raises(TooLong):
                preview(text, TrialLimits(lock=0.2, all=0.8), 0)

        with background(hold), Plain(database) as second:
            until(lambda: catalog.one(RUNNING))
            began = time.monotonic()
            second.run("SET statement_timeout = '5s'; UPDATE products SET name = 'y' WHERE id = 1")
            assert time.monotonic() - began < 3
    with Plain(database, autocommit=False) as holder:
        holder.run("UPDATE products SET name = 'z' WHERE id = 1")
        with pytest.raises(TooLong, match="lock timeout"):
            preview("UPDATE products SET name = 'x' WHERE id = 1", TrialLimits(lock=0.1, all=20), 0)


RUNNING: Final = """
    SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation
     WHERE relname = 'products' AND mode = 'RowExclusiveLock' AND granted"""
OPEN: Final = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'citycache preview'"


def test_the_server_ends_it_where_the_process_stands_still(catalog: Plain) -> None:
    def stand_still() -> None:
        with trial(TrialLimits(lock=1, all=0.3)) as tried:
            tried.run("UPDATE products SET name = 'x' WHERE id = 1")
            until(lambda: catalog.one(OPEN) == 0)
            tried.go_on()

    with pytest.raises(TooLong):
        stand_still()


def test_says_which_right_is_lacking(catalog: Plain, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.run("CREATE ROLE preview_reader LOGIN PASSWORD 'x'; CREATE ROLE preview_writer LOGIN PASSWORD 'x'")
    catalog.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO preview_reader")
    catalog.run("GRANT SELECT, UPDATE ON products TO preview_writer")
    try:
        for role, lacks in (("preview_reader", "table products"), ("preview_writer", "table event_outbox")):
            address = dsn(database).partition("@")[2]
            monkeypatch.setenv("DATABASE_URL", f"postgresql://{role}:x@{address}")
            settings.cache_clear()
            done = run("UPDATE products SET is_active = false WHERE id = 1")
            assert (done.exit_code, f"permission denied for {lacks}" in done.output) == (2, True), done.output
    finally:
        db.dispose()
        catalog.run("DROP OWNED BY preview_reader, preview_writer; DROP ROLE preview_reader, preview_writer")


def test_what_is_deferred_to_the_commit_is_shown_as_well(catalog: Plain) -> None:
    catalog.run("""
        CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN UPDATE products SET is_active = false WHERE id = 2; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER also AFTER UPDATE ON cities DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION also()""")
    assert [row.key for row in preview("UPDATE cities SET name = 'n' WHERE id = 1", PATIENT, 10).rows] == [2]


def test_holds_a_bounded_number_of_rows_however_many_are_touched(
    configured_database: None, plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "WINDOW", 1_000)
    monkeypatch.setattr(captured, "PART", 1_000)
    catalogs.many(plain, cities=10, companies=100, products=20_000)
    plain.run("DELETE FROM event_outbox; ANALYZE")
    text = "UPDATE products SET is_active = false; UPDATE companies SET name = 'x'"
    preview("UPDATE products SET name = 'x' WHERE id = 1; UPDATE companies SET name = 'x' WHERE id = 1", PATIENT, 5)
    tracemalloc.start()
    try:
        shown = preview(text, PATIENT, 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (shown.keys["products"], shown.rows_changed) == (20_000, 100)
    assert peak < 6 * 2**20  # windows and parts, and eight bytes a key: all at once take 10 MB
