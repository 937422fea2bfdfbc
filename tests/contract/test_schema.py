"""Migrations lead to what the models say, back and forth, and to what the contract says."""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from backend.app.database.schema import needed
from tests import commands, schemas
from tests.catalogs import DEFINITION
from tests.plain import Plain
from tests.servers import ROOT, migrate

CONTRACT = {  # columns that others rely on
    "cities": ["id", "external_id", "name", "latitude", "longitude"],
    "companies": ["id", "external_id", "name", "city_id", "is_active", "created_at", "updated_at"],
    "products": ["id", "external_id", "company_id", "name", "kind", "is_active", "created_at", "updated_at"],
    "product_city_mapping": ["product_id", "city_id", "company_id", "kind", "created_at"],
    "company_city_mapping": ["company_id", "city_id", "created_at"],
    "city_counts": ["city_id", "products_count", "services_count", "companies_count", "updated_at"],
    "active_cities_cache": [
        "cache_type",
        "active_city_ids",
        "total_cities",
        "total_companies",
        "total_products",
        "last_updated",
    ],
    "event_outbox": [],
    "task_runs": ["task"],
}
KEYS = {
    "product_city_mapping": "product_id",
    "company_city_mapping": "company_id",
    "city_counts": "city_id",
    "active_cities_cache": "cache_type",
}


def alembic(url: str, *arguments: str, **settings: str) -> str:
    argv = [sys.executable, "-m", "alembic", "-c", "backend/alembic.ini", *arguments]
    done = commands.run(argv, {**os.environ, "DATABASE_URL": url, **settings}, patience=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def objects(plain: Plain) -> list[tuple[str, str]]:
    """Everything in schema public that somebody made."""
    return [
        (row[0], row[1])
        for row in plain.all("""
            SELECT relkind::text, relname FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic%'
            UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            ORDER BY 1, 2""")
    ]


def definitions(plain: Plain) -> list[tuple[str, ...]]:
    """Columns, constraints, indexes, triggers, functions and views of the schema, as text."""
    return plain.all("""
        SELECT 'column', table_name || '.' || column_name, data_type || coalesce(column_default, '') || is_nullable
          FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
                   WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT 'trigger', tgname || tgrelid::regclass, pg_get_triggerdef(oid) FROM pg_trigger
                   WHERE NOT tgisinternal
        UNION ALL SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc
                   WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'view', viewname, definition FROM pg_views WHERE schemaname = 'public'
        ORDER BY 1, 2, 3""")


def test_the_models_say_what_the_migrations_made(database: str) -> None:
    assert "No new upgrade operations detected" in alembic(database, "check")


def test_migrations_go_back_to_nothing_and_forth_to_the_same(database: str) -> None:
    with Plain(database) as plain:
        before = definitions(plain)

        alembic(database, "downgrade", "base")
        assert objects(plain) == []
        alembic(database, "upgrade", "head")

        assert definitions(plain) == before


def counts(plain: Plain) -> dict[str, int]:
    """Rows of each table."""
    return {name: plain.one(f"SELECT count(*) FROM {name}") for kind, name in objects(plain) if kind == "r"}


FORGOTTEN = {"suspects"}  # said for a few seconds what differed; unlogged, so any crash forgot it


@pytest.mark.parametrize("revision", schemas.revisions())
def test_what_an_earlier_revision_made_becomes_what_the_newest_makes(
    database: str, configured_empty: str, revision: str
) -> None:
    """The dumps come from databases that the code of that time has migrated, each table with rows."""
    with Plain(database) as newest, Plain(configured_empty) as plain:
        plain.run(schemas.dump(revision))
        before = counts(plain)
        assert 0 not in before.values()

        command.upgrade(Config(ROOT / "backend" / "alembic.ini"), "head")

        assert definitions(plain) == definitions(newest)
        kept = {table: rows for table, rows in before.items() if table not in FORGOTTEN}
        assert counts(plain) | kept == counts(plain)
        plain.run("UPDATE products SET name = 'new' WHERE id = 1")
        assert plain.one("SELECT count(*) FROM event_outbox WHERE subject = 'product/1'") > 1


THEIRS = """
    CREATE TABLE cities (id int PRIMARY KEY, name text);
    CREATE TABLE companies (id int PRIMARY KEY, city_id int);
    CREATE TABLE products (id int PRIMARY KEY, company_id int, name text, kind text, is_active bool)"""
OURS = DEFINITION.replace('"name"\ncity', "\"'c' || id\"\ncity")


def test_beside_an_adopted_catalog_each_step_is_taken_and_tables_of_the_same_names_stay(
    empty_database: str, tmp_path: Path
) -> None:
    """An earlier release has adopted, and taken its own catalog's tables away."""
    definition = tmp_path / "catalog.toml"
    definition.write_text(OURS, encoding="utf-8")
    with Plain(empty_database) as plain:
        plain.run(THEIRS)
        before = objects(plain)
        for revision in (*schemas.revisions()[schemas.revisions().index("0019") :], "head"):
            alembic(empty_database, "upgrade", revision, CATALOG_FILE=str(definition))
        assert objects(plain) == before
        assert plain.one("SELECT version_num FROM citycache.alembic_version") == needed().revision


def test_todays_schema_can_be_dumped_with_rows_for_the_next_revision(database: str, empty_database: str) -> None:
    with Plain(database) as newest, Plain(empty_database) as plain:
        schemas.fill(newest)
        plain.run(schemas.dumped(database))
        assert 0 not in counts(plain).values()
        assert definitions(plain) == definitions(newest)


def test_there_is_a_dump_of_each_earlier_revision_and_migrations_read_nothing_of_today() -> None:
    """0001 to 0003 were never a release by themselves. A migration whose SQL lives elsewhere changes with it."""
    versions = sorted((ROOT / "backend" / "alembic" / "versions").glob("0*.py"))
    assert [version.name[:4] for version in versions][3:-1] == schemas.revisions()
    for version in versions:
        assert not re.search(r"read_text|\bopen\(|from (backend|events)", version.read_text(encoding="utf-8")), version


def test_there_is_one_line_of_migrations_and_every_process_knows_its_end(database: str) -> None:
    assert alembic(database, "heads").split() == [needed().revision, "(head)"]
    assert len(alembic(database, "history").splitlines()) == 1 + len(needed().older)


def test_several_may_migrate_at_once(empty_database: str) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            migrate(empty_database)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert failures == []
    with Plain(empty_database) as plain:
        assert plain.one("SELECT count(*) FROM alembic_version") == 1


@pytest.mark.parametrize("table", CONTRACT)
def test_tables_have_the_columns_of_the_contract(database: str, table: str) -> None:
    with Plain(database) as plain:
        columns = plain.column(
            "SELECT column_name::text FROM information_schema.columns WHERE table_name = %s", (table,)
        )
    assert columns
    assert set(CONTRACT[table]) <= set(columns)


def test_the_caches_have_their_keys_and_no_foreign_key_into_the_catalog(database: str) -> None:
    """A cascade would remove cached rows behind the counts' back."""
    with Plain(database) as plain:
        for table, key in KEYS.items():
            kinds = dict(
                plain.all(
                    "SELECT contype::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass"
                    " AND contype IN ('p', 'f')",
                    (table,),
                )
            )
            assert kinds == {"p": f"PRIMARY KEY ({key})"}


def test_a_plain_insert_needs_names_and_parents_only(database: str) -> None:
    with Plain(database) as plain:
        plain.run("INSERT INTO cities (name) VALUES ('a')")
        plain.run("INSERT INTO companies (name) VALUES ('x')")
        plain.run("INSERT INTO products (company_id, name) SELECT id, 'p' FROM companies")
        row = plain.all("SELECT kind, is_active, created_at <= now(), updated_at <= now() FROM products")[0]
    assert row == ("product", True, True, True)


def test_both_active_rows_are_there_from_the_beginning(database: str) -> None:
    with Plain(database) as plain:
        rows = plain.all("SELECT cache_type, active_city_ids, total_cities FROM active_cities_cache ORDER BY 1")
    assert rows == [("companies", [], 0), ("products", [], 0)]
