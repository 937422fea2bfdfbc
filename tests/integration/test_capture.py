"""Capture: each committed change of a catalog row leaves one event, however it was written; nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2.errors
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from backend.app.catalog.models import City, Company, Product
from tests.plain import Plain, psql

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

ELSEWHERE = """
    CREATE SCHEMA elsewhere;
    CREATE TABLE elsewhere.event_outbox (LIKE public.event_outbox);
    CREATE FUNCTION elsewhere.row_to_json(public.products) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json $$;
    CREATE FUNCTION elsewhere.forged(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'forged' $$;
    CREATE FUNCTION elsewhere.forged(text, bigint) RETURNS text LANGUAGE sql AS $$ SELECT 'forged' $$;
    CREATE FUNCTION elsewhere.never(public.products, public.products) RETURNS bool LANGUAGE sql AS $$ SELECT false $$;
    CREATE OPERATOR elsewhere.|| (FUNCTION = elsewhere.forged, LEFTARG = text, RIGHTARG = text);
    CREATE OPERATOR elsewhere.|| (FUNCTION = elsewhere.forged, LEFTARG = text, RIGHTARG = bigint);
    CREATE OPERATOR elsewhere.*<> (FUNCTION = elsewhere.never, LEFTARG = public.products, RIGHTARG = public.products)"""


@pytest.fixture
def plain(database: str) -> Iterator[Plain]:
    with Plain(database) as plain:
        plain.run("INSERT INTO cities (id, name) VALUES (1, 'a'), (2, 'b')")
        plain.run("INSERT INTO companies (id, name, city_id) VALUES (10, 'x', 1), (20, 'y', 1)")
        plain.run(
            "INSERT INTO products (id, company_id, name) SELECT 100 + n, 10, 'p' || n FROM generate_series(1, 5) AS n"
        )
        taken(plain)
        yield plain


def taken(plain: Plain) -> list[tuple[str, str]]:
    """The outbox, oldest first, as (type without 'catalog.', subject); emptied."""
    rows = plain.all("WITH gone AS (DELETE FROM event_outbox RETURNING *) SELECT type, subject FROM gone ORDER BY id")
    return [(kind.removeprefix("catalog."), subject) for kind, subject in rows]


def images(plain: Plain, subject: str) -> tuple[Any, Any]:
    """Before and after of the only event of this subject."""
    (row,) = plain.all("SELECT before, after FROM event_outbox WHERE subject = %s", (subject,))
    return row[0], row[1]


def test_captures_what_the_orm_writes(plain: Plain, database: str) -> None:
    engine = create_engine(database)
    with Session(engine) as session:
        session.add(City(id=3, name="c"))
        session.flush()
        session.add(Company(id=30, name="z", city_id=3))
        session.flush()
        session.add(Product(id=300, company_id=30, name="new", kind="service"))
        session.get_one(Product, 101).name = "renamed"
        session.delete(session.get_one(Company, 20))
        session.commit()
    engine.dispose()

    assert sorted(taken(plain)) == [
        ("city.created", "city/3"),
        ("company.created", "company/30"),
        ("company.deleted", "company/20"),
        ("product.created", "product/300"),
        ("product.updated", "product/101"),
    ]


def test_carries_the_row_before_and_after(plain: Plain) -> None:
    plain.run("UPDATE products SET name = 'n', kind = 'service' WHERE id = 101")
    plain.run("DELETE FROM products WHERE id = 102")
    plain.run("INSERT INTO products (id, company_id, name) VALUES (103, 20, 'more') ON CONFLICT DO NOTHING")
    plain.run("INSERT INTO products (id, company_id, name) VALUES (900, 20, 'more')")

    before, after = images(plain, "product/101")
    assert (before["name"], before["kind"], after["name"], after["kind"]) == ("p1", "product", "n", "service")
    assert set(after) == {
        "id",
        "external_id",
        "company_id",
        "name",
        "kind",
        "is_active",
        "created_at",
        "updated_at",
    }
    before, after = images(plain, "product/102")
    assert (before["name"], after) == ("p2", None)
    before, after = images(plain, "product/900")
    assert (before, after["is_active"]) == (None, True)


def test_one_event_for_each_row_of_a_bulk_insert_select(plain: Plain) -> None:
    plain.run("INSERT INTO products (id, company_id, name) SELECT n, 20, 'bulk' FROM generate_series(1001, 3000) AS n")

    events = taken(plain)
    assert len(events) == 2000
    assert set(events) == {("product.created", f"product/{n}") for n in range(1001, 3001)}


def test_a_bulk_update_makes_events_for_the_rows_that_differ_only(plain: Plain) -> None:
    plain.run("UPDATE products SET is_active = (id <> 101 AND id <> 103)")

    assert sorted(taken(plain)) == [("product.updated", "product/101"), ("product.updated", "product/103")]


def test_captures_copy(plain: Plain) -> None:
    plain.copy("products (id, company_id, name)", ["201\t20\tcopied", "202\t20\tcopied"])

    assert taken(plain) == [("product.created", "product/201"), ("product.created", "product/202")]


def test_captures_the_rows_that_a_cascade_deletes(plain: Plain) -> None:
    plain.run("DELETE FROM companies WHERE id = 10")

    events = taken(plain)
    assert ("company.deleted", "company/10") in events
    assert {subject for kind, subject in events if kind == "product.deleted"} == {f"product/10{n}" for n in range(1, 6)}
    assert len(events) == 6


def test_captures_companies_that_lose_their_city_with_it(plain: Plain) -> None:
    plain.run("DELETE FROM cities WHERE id = 1")

    assert sorted(taken(plain)) == [
        ("city.deleted", "city/1"),
        ("company.updated", "company/10"),
        ("company.updated", "company/20"),
    ]


def test_an_upsert_makes_a_creation_or_an_update_or_nothing(plain: Plain) -> None:
    plain.run("""
        INSERT INTO products (id, company_id, name) VALUES (101, 10, 'p1'), (102, 10, 'other'), (106, 10, 'fresh')
        ON CONFLICT (id) DO UPDATE SET name = excluded.name""")
    plain.run("INSERT INTO products (id, company_id, name) VALUES (101, 10, 'ignored') ON CONFLICT DO NOTHING")

    assert sorted(taken(plain)) == [("product.created", "product/106"), ("product.updated", "product/102")]


def test_captures_every_branch_of_a_merge(plain: Plain) -> None:
    plain.run("""
        MERGE INTO products USING (VALUES (101, 'gone'), (102, 'changed'), (900, 'fresh')) AS wanted (id, name)
           ON products.id = wanted.id
         WHEN MATCHED AND wanted.name = 'gone' THEN DELETE
         WHEN MATCHED THEN UPDATE SET name = wanted.name
         WHEN NOT MATCHED THEN INSERT (id, company_id, name) VALUES (wanted.id, 20, wanted.name)""")

    assert sorted(taken(plain)) == [
        ("product.created", "product/900"),
        ("product.deleted", "product/101"),
        ("product.updated", "product/102"),
    ]


def test_captures_what_a_data_modifying_cte_writes(plain: Plain) -> None:
    plain.run("""
        WITH moved AS (UPDATE products SET company_id = 20 WHERE id = 101 RETURNING id),
             gone AS (DELETE FROM products WHERE id = 102 RETURNING id)
        UPDATE companies SET city_id = 2 WHERE id IN (10, (SELECT max(10) FROM moved, gone))""")

    assert sorted(taken(plain)) == [
        ("company.updated", "company/10"),
        ("product.deleted", "product/102"),
        ("product.updated", "product/101"),
    ]


def test_captures_psql(plain: Plain, database: str) -> None:
    script = "BEGIN; UPDATE products SET is_active = false WHERE id = 101; COMMIT; DELETE FROM products WHERE id = 105;"
    psql(database, script)

    assert taken(plain) == [("product.updated", "product/101"), ("product.deleted", "product/105")]


def test_several_statements_in_one_message_make_their_events_in_order(plain: Plain) -> None:
    plain.run("""
        BEGIN;
        UPDATE products SET is_active = false WHERE id = 101;
        UPDATE products SET is_active = true WHERE id = 101;
        COMMIT""")

    assert taken(plain) == [("product.updated", "product/101"), ("product.updated", "product/101")]


def test_a_changed_key_is_a_deletion_and_a_creation(plain: Plain) -> None:
    plain.run("UPDATE products SET id = 999 WHERE id = 101")

    assert sorted(taken(plain)) == [("product.created", "product/999"), ("product.deleted", "product/101")]


def test_a_shift_of_all_keys_names_every_key_before_and_after(plain: Plain) -> None:
    plain.run("""
        INSERT INTO products (id, company_id, name)
        SELECT n, 20, 'same' FROM generate_series(203, 201, -1) AS n""")
    taken(plain)

    plain.run("UPDATE products SET id = id + 1 WHERE id > 200")  # the highest first, as they lie on the page

    assert {subject for _, subject in taken(plain)} >= {"product/201", "product/204"}
    assert plain.column("SELECT id FROM products WHERE id > 200 ORDER BY id") == [202, 203, 204]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE products SET name = name, is_active = is_active",
        "UPDATE companies SET city_id = 1 WHERE id = 10",
        "UPDATE cities SET latitude = NULL",
        "UPDATE products SET name = 'never' WHERE id = -1",
        "DELETE FROM companies WHERE id = -1",
        "INSERT INTO products (company_id, name) SELECT 10, 'never' WHERE false",
        "INSERT INTO companies (id, name) VALUES (10, 'never') ON CONFLICT DO NOTHING",
    ],
)
def test_what_changes_nothing_makes_no_event(plain: Plain, statement: str) -> None:
    plain.run(statement)

    assert taken(plain) == []


def test_a_rollback_leaves_no_event(database: str, plain: Plain) -> None:
    with Plain(database, autocommit=False) as writer:
        writer.run("UPDATE products SET name = 'never'")
        writer.run("SAVEPOINT half")
        writer.run("DELETE FROM companies WHERE id = 10")
        writer.run("ROLLBACK TO half")
        assert writer.one("SELECT count(*) FROM event_outbox") == 5
        writer.rollback()
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        plain.run("INSERT INTO products (company_id, name) VALUES (-1, 'never')")

    assert taken(plain) == []


def test_a_truncate_asks_for_a_reconciliation(plain: Plain) -> None:
    plain.run("TRUNCATE products")
    assert taken(plain) == [("product.truncated", "product")]

    plain.run("TRUNCATE cities CASCADE")
    assert sorted(taken(plain)) == [("company.truncated", "company"), ("product.truncated", "product")]


def test_a_truncate_that_is_rolled_back_leaves_no_event(database: str, plain: Plain) -> None:
    with Plain(database, autocommit=False) as writer:
        writer.run("TRUNCATE companies, products")
        writer.rollback()

    assert taken(plain) == []


@pytest.mark.parametrize("kind", ["numeric(12, 2)", "point", "json", "int[]"])
def test_a_column_that_came_later_is_captured_too(plain: Plain, kind: str) -> None:
    """Of any type: point and json have no equality operator, so rows are compared by their binary image."""
    values = {"numeric(12, 2)": "9.90", "point": "(1,2)", "json": '{"a": 1}', "int[]": "{1,2}"}
    plain.run("UPDATE products SET name = 'warm the plan' WHERE id = 101")
    plain.run(f"ALTER TABLE products ADD COLUMN extra {kind}")
    taken(plain)

    plain.run("UPDATE products SET extra = %s WHERE id IN (101, 102)", (values[kind],))
    plain.run("UPDATE products SET extra = extra")

    before, after = images(plain, "product/102")
    assert (before["extra"], bool(after["extra"])) == (None, True)
    assert sorted(taken(plain)) == [("product.updated", "product/101"), ("product.updated", "product/102")]


def test_a_column_that_went_is_no_trouble(plain: Plain) -> None:
    plain.run("UPDATE cities SET latitude = 1 WHERE id = 1")
    plain.run("ALTER TABLE cities DROP COLUMN latitude")
    taken(plain)

    plain.run("UPDATE cities SET name = 'renamed' WHERE id = 1")

    assert "latitude" not in images(plain, "city/1")[1]
    assert taken(plain) == [("city.updated", "city/1")]


def test_large_values_that_stay_the_same_make_no_event(plain: Plain) -> None:
    plain.run("UPDATE products SET name = repeat('wide', 100000) || id WHERE id = 101")
    taken(plain)

    plain.run("UPDATE products SET name = name || '' WHERE id = 101")

    assert taken(plain) == []


def test_carries_the_writers_trace_and_only_inside_its_transaction(database: str, plain: Plain) -> None:
    with Plain(database, autocommit=False) as writer:
        writer.one("SELECT set_config('citycache.traceparent', %s, true)", (TRACEPARENT,))
        writer.run("UPDATE products SET name = 'traced' WHERE id = 101")
        writer.commit()
        writer.run("UPDATE products SET name = 'untraced' WHERE id = 101")
        writer.commit()

    assert plain.column("SELECT traceparent FROM event_outbox ORDER BY id") == [TRACEPARENT, None]


def test_event_ids_are_unique_and_times_do_not_go_back(plain: Plain) -> None:
    plain.run("UPDATE products SET name = 'n'")
    plain.run("UPDATE products SET name = 'm'")

    events = plain.all("SELECT event_id, occurred_at FROM event_outbox ORDER BY id")
    assert len({event_id for event_id, _ in events}) == 10
    assert [time for _, time in events] == sorted(time for _, time in events)


def test_a_schema_search_path_of_the_writer_does_not_matter(database: str, plain: Plain) -> None:
    with Plain(database) as writer:
        writer.run(ELSEWHERE)
        writer.run("SET search_path = elsewhere, pg_catalog")
        writer.run("UPDATE public.products SET name = 'n' WHERE id = 101")

    assert images(plain, "product/101")[1]["name"] == "n"
    assert taken(plain) == [("product.updated", "product/101")]
