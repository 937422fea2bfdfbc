"""The built-in catalog is a definition like any other, and mistakes in a definition are answered with file and key."""

from __future__ import annotations

import pytest

from backend.app import db
from backend.app.catalog import definition, sources
from backend.app.catalog.resolved import resolve, run_as_it_is
from backend.app.errors import BadDefinition
from tests.catalogs import DEFINITION
from tests.plain import Plain

OBJECTS = """
    SELECT proname, pg_get_function_result(oid), prosrc, provolatile FROM pg_proc
     WHERE pronamespace = 'public'::regnamespace AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql')
    UNION ALL SELECT viewname, definition, NULL, NULL FROM pg_views WHERE schemaname = 'public'
     ORDER BY 1"""


@pytest.mark.usefixtures("configured_database")
def test_migrations_make_what_the_built_in_definition_says(database: str) -> None:
    with Plain(database) as plain:
        migrated = plain.all(OBJECTS)

        with db.transaction() as connection:
            catalog = resolve(connection, definition.load(definition.BUILT_IN))
            for statement in sources.statements(catalog, "public"):
                run_as_it_is(connection, statement)

        assert plain.all(OBJECTS) == migrated


MISTAKES = {  # what stands in the file in place of what → the key and a word of the reason
    "a table that is not there": ("public.cities", "public.towns", "city.table", "towns"),
    "a column that is not there": ('city = "city_id"', 'city = "town_id"', "company.city", "town_id"),
    "an unknown key": ('city = "city_id"', 'city = "city_id"\ntown = "x"', "company.town", "unknown"),
    "a missing key": ('company = "company_id"\n', "", "product.company", "missing"),
    "no TOML": ("[city]", "[city", "", "TOML"),
    "a number for a text": ('name = "name"\n[company]', "name = 7\n[company]", "city.name", "text"),
    "a condition that is none": ('city = "city_id"', 'city = "city_id"\nactive = "name"', "company.active", "boolean"),
    "a key that is text": ('company = "company_id"', 'company = "name"', "product.company", "integer"),
    "the clock": ('city = "city_id"', 'city = "city_id"\nactive = "created_at < now()"', "company.active", "now()"),
    "the date": ("city_id", "CASE WHEN CURRENT_DATE IS NULL THEN city_id END", "company.city", "without a write"),
    "a date said by a word": ("city_id", "CASE WHEN created_at > 'today' THEN city_id END", "company.city", "write"),
    "chance": ("city_id", "CASE WHEN random() < 1 THEN city_id END", "company.city", "random"),
    "a setting": ('city = "city_id"', "city = \"current_setting('a.b')::bigint\"", "company.city", "current_setting"),
    "the time zone": (
        'city = "city_id"', "city = \"CASE created_at::text WHEN '' THEN city_id END\"", "company.city", "timestamptz",
    ),
    "a table that nobody watches": (
        'city = "city_id"', 'city = "(SELECT min(id) FROM public.cities)"', "company.city", "[[watch]]",
    ),
    "a whole row": ('city = "city_id"', 'city = "hashtext(companies::text)"', "company.city", ""),
    "a schema of the server's": ('"citycache"', '"pg_mine"', "schema", "pg_mine"),
    "a watch of no noun": (
        "[product]", '[[watch]]\ntable = "public.cities"\nnoun = "x"\nids = "SELECT 1"\n[product]', "watch[1].noun", "",
    ),
    "a watch that asks for a column which does not travel": (
        "[product]",
        '[[watch]]\ntable = "public.cities"\nnoun = "city"\nids = "SELECT changed.name"\npublish = ["id"]\n[product]',
        "watch[1].ids", "name",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("configured_database")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_file_key_and_reason(mistake: str) -> None:
    said, instead, key, reason = MISTAKES[mistake]
    assert said in DEFINITION

    with pytest.raises(BadDefinition) as answered, db.engine().connect() as connection:
        resolve(connection, definition.parse(DEFINITION.replace(said, instead, 1), "catalog.toml"))

    assert (answered.value.file, answered.value.key) == ("catalog.toml", key)
    assert reason in answered.value.reason


@pytest.mark.usefixtures("configured_database")
@pytest.mark.parametrize(
    "expression",
    [
        "CASE WHEN is_active THEN city_id END",
        "city_id + 0",
        "(SELECT city_id)",
        "nullif(city_id, 3)::integer",
        "city_id -- x",
    ],
)
def test_what_rests_on_the_row_alone_is_taken(expression: str) -> None:
    with db.engine().connect() as connection:
        catalog = resolve(
            connection, definition.parse(DEFINITION.replace('"city_id"', f'"{expression}"'), "catalog.toml")
        )

    assert "city_id" in catalog.sources["company"].used
