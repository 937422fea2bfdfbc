"""A role that owns the tables and nothing else adopts them; of what it lacks the answer says which right it is."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.adopt.marketplace import Marketplace
from tests.adopt.shop import shop_at, violations
from tests.plain import Plain

NARROW = """
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'keeper') THEN
            CREATE ROLE keeper LOGIN PASSWORD 'kept' NOSUPERUSER NOCREATEDB NOCREATEROLE;
        END IF;
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
        EXECUTE format('GRANT CONNECT, TEMPORARY, CREATE ON DATABASE %I TO keeper', current_database());
    END $$;
    REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC"""
LACKING = {  # what is taken from the role, and what the answer says
    "REVOKE TEMPORARY ON DATABASE {database} FROM keeper": "permission denied to create temporary tables",
    "REVOKE CREATE ON DATABASE {database} FROM keeper": "this role may not create a schema in this database",
    'CREATE SCHEMA "City Cache"': "this role may not make anything in it",
    'CREATE SCHEMA "City Cache" AUTHORIZATION keeper; CREATE TABLE "City Cache".theirs ()': "is there and not empty",
    "ALTER TABLE shop.addresses OWNER TO CURRENT_USER; GRANT SELECT ON shop.addresses TO keeper":
        "this role does not own shop.addresses",
    "ALTER TABLE shop.goods_1a OWNER TO CURRENT_USER": "this role does not own shop.goods_1a",
    "REVOKE SELECT ON shop.sellers FROM keeper": "permission denied for table sellers",
    'ALTER SCHEMA "Orte" OWNER TO CURRENT_USER': "permission denied for schema Orte",
    "ALTER TABLE shop.goods ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY": "row-level security policy for table",
}  # fmt: skip


@pytest.fixture
def shop(empty_database: str) -> Marketplace:
    with Plain(empty_database) as plain:
        plain.run(NARROW)
    address = urlsplit(empty_database)
    keeper = urlunsplit(address._replace(netloc=f"keeper:kept@{address.netloc.rpartition('@')[2]}"))
    return replace(shop_at(keeper), owner=empty_database)


def test_the_owner_of_the_tables_needs_nothing_else(shop: Marketplace) -> None:
    before = shop.dump()

    shop.adopt()

    with Plain(shop.owner) as plain:
        assert violations(plain) == []
    assert [shop.run(command).code for command in ("verify", "doctor")] == [0, 0]
    assert shop.run("release", "--apply").code == 0
    assert shop.dump() == before


def test_a_schema_that_was_given_to_the_role_is_left_to_it_empty(shop: Marketplace) -> None:
    with Plain(shop.owner) as plain:
        plain.run('CREATE SCHEMA "City Cache"; GRANT USAGE, CREATE ON SCHEMA "City Cache" TO keeper')
        plain.run(f"REVOKE CREATE ON DATABASE {plain.one('SELECT current_database()')} FROM keeper")
    before = shop.dump()

    shop.adopt()
    released = shop.run("release", "--apply")

    assert released.code == 0, released.err
    assert shop.dump() == before


def test_what_others_have_made_upon_the_caches_is_not_taken_along(shop: Marketplace) -> None:
    shop.adopt()
    with Plain(shop.url) as plain:
        plain.run('CREATE VIEW shop.places AS SELECT city_id FROM "City Cache".city_counts')
        released = shop.run("release", "--apply")

        assert (released.code, "shop.places would go as well" in released.err) == (1, True)
        assert plain.one("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'citycache%'") > 0
        plain.run("DROP VIEW shop.places")
    assert shop.run("release", "--apply").code == 0


@pytest.mark.parametrize(("statement", "named"), LACKING.items(), ids=LACKING.values())
def test_a_right_that_lacks_is_named(shop: Marketplace, statement: str, named: str) -> None:
    with Plain(shop.owner) as plain:
        plain.run(statement.replace("{database}", plain.one("SELECT current_database()")))

    ran = shop.run("adopt", "--apply")

    assert ran.code == 1, ran.out + ran.err
    assert named in ran.err
    assert "Traceback" not in ran.err
