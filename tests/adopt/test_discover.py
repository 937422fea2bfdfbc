"""What `adopt --discover` guesses can be adopted, and what it cannot guess it says."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from backend.app.adopting.discover import discover
from backend.app.adopting.plan import plan
from backend.app.catalog import definition
from tests.adopt.following import beside
from tests.adopt.marketplace import Marketplace
from tests.plain import Plain

APPS: Final = """
    CREATE TABLE auth_user (id bigint PRIMARY KEY, name text, is_active boolean);
    CREATE TABLE geo_country (id bigint PRIMARY KEY, name_ru text);
    CREATE TABLE geo_region (id bigint PRIMARY KEY, name text, country_id bigint REFERENCES geo_country);
    CREATE TABLE geo_city (id bigint PRIMARY KEY, name text, region_id bigint REFERENCES geo_region,
        is_published boolean, created_by_id bigint REFERENCES auth_user);
    CREATE TABLE shops_shop (id bigint PRIMARY KEY, name text, owner_id bigint REFERENCES auth_user);
    CREATE TABLE shops_shop_cities (id bigint PRIMARY KEY, shop_id bigint REFERENCES shops_shop,
        city_id bigint REFERENCES geo_city);
    CREATE TABLE catalog_product (id bigint PRIMARY KEY, uuid uuid UNIQUE, title text,
        shop_id bigint REFERENCES shops_shop);
    CREATE TABLE orders_orderitem (id bigint PRIMARY KEY, shop_id bigint REFERENCES shops_shop,
        product_id bigint REFERENCES catalog_product);
    INSERT INTO auth_user VALUES (1, 'u', true); INSERT INTO shops_shop VALUES (1, 's', 1);
    INSERT INTO orders_orderitem SELECT n, 1, NULL FROM generate_series(1, 999) n; ANALYZE"""
CLASSIFIEDS: Final = """
    CREATE SCHEMA dict; CREATE SCHEMA board;
    CREATE TYPE board.state AS ENUM ('new', 'active', 'gone');
    CREATE TABLE dict.locations (id int PRIMARY KEY, parent_id int REFERENCES dict.locations, kind text, title text);
    CREATE TABLE board."user" (id bigint PRIMARY KEY, "full name" text, blocked_at timestamptz, city_id int
        REFERENCES dict.locations);
    CREATE TABLE board.ads (id bigint, at timestamptz, user_id bigint, title text, status board.state,
        expires_at timestamptz,
        PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE board.ads_new PARTITION OF board.ads DEFAULT"""
UNTOLD: Final = """
    CREATE TABLE spree_states (id serial PRIMARY KEY, name varchar);
    CREATE TABLE spree_cities (id serial PRIMARY KEY, name varchar, state_id int);
    CREATE TABLE spree_addresses (id serial PRIMARY KEY, city_id int, company varchar);
    CREATE TABLE spree_vendors (id serial PRIMARY KEY, name varchar, address_id int, deleted_at timestamp);
    CREATE TABLE spree_products (id serial PRIMARY KEY, name varchar, vendor_id int, status varchar);
    CREATE TABLE spree_product_images (id serial PRIMARY KEY, product_id int, vendor_id int)"""
ODD: Final = """
    CREATE SCHEMA "a.b"; CREATE SCHEMA "Магазин";
    CREATE TABLE "a.b"."Cities" ("Id" smallint PRIMARY KEY, "Name" text, "Is_Active" boolean);
    CREATE TABLE "Магазин"."Shop""s" ("Nr
" int PRIMARY KEY, "order" text, "city" int REFERENCES "a.b"."Cities", "Deleted" boolean);
    CREATE TABLE "Магазин"."товары" (code text PRIMARY KEY, seq bigint UNIQUE, title text,
        shop int REFERENCES "Магазин"."Shop""s")"""
Wanted = Mapping[str, Mapping[str, object]]
CASES: Final[Mapping[str, tuple[str, Wanted]]] = {
    "apps": (
        APPS,
        {
            "city": {"table": "public.geo_city", "exists": "is_published"},
            "company": {"table": "public.shops_shop"},
            "product": {"table": "public.catalog_product", "id": "id", "name": "title", "company": "shop_id"},
        },
    ),
    "classifieds": (
        CLASSIFIEDS,
        {
            "city": {"table": "dict.locations", "name": "title"},
            "company": {"table": "board.user", "name": "full name", "city": "city_id", "active": "blocked_at IS NULL"},
            "product": {"table": "board.ads", "id": "id", "company": "user_id", "active": "status IN ('active')"},
        },
    ),
    "no foreign keys": (
        UNTOLD,
        {
            "city": {"table": "public.spree_cities"},
            "company": {"table": "public.spree_vendors", "active": "deleted_at IS NULL"},
            "product": {"table": "public.spree_products", "company": "vendor_id"},
        },
    ),
    "odd names": (
        ODD,
        {
            "city": {"table": '"a.b"."Cities"', "exists": '"Is_Active"'},
            "company": {"table": 'Магазин.Shop"s', "id": '"Nr\n"', "city": "city", "active": 'NOT "Deleted"'},
            "product": {"table": "Магазин.товары", "id": "seq", "company": "shop"},
        },
    ),
}


def test_what_is_guessed_is_a_definition_that_can_be_adopted(kufar: str, tmp_path: Path) -> None:
    market = Marketplace(kufar, tmp_path / "catalog.toml", environment={"CATALOG_FILE": ""})

    guessed = market.run("adopt", "--discover")

    assert guessed.code == 0, guessed.err
    assert 'table = "public.companies"' in guessed.out
    assert 'active = "NOT is_hidden AND NOT is_deleted"' in guessed.out
    market.file.write_text(guessed.out, encoding="utf-8")
    assert market.run("adopt", str(market.file)).code == 0


def _guessed(url: str, monkeypatch: pytest.MonkeyPatch, file: Path) -> str:
    with beside(Marketplace(url, file, environment={"CATALOG_FILE": ""}), monkeypatch):
        return discover()


@pytest.mark.parametrize(("tables", "wanted"), CASES.values(), ids=list(CASES))
def test_tables_of_other_makers_are_found(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tables: str, wanted: Wanted
) -> None:
    market = Marketplace(empty_database, tmp_path / "catalog.toml")
    with Plain(empty_database) as plain:
        plain.run(tables)

    guessed = _guessed(empty_database, monkeypatch, market.file)

    market.file.write_text(guessed, encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(guessed)
    assert {noun: {key: found[noun].get(key) for key in keys} for noun, keys in wanted.items()} == wanted, guessed
    with beside(market, monkeypatch):
        assert plan(definition.current()).is_possible, guessed


def test_a_way_through_another_table_is_watched(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Plain(empty_database) as plain:
        plain.run(APPS)
        linked = tomllib.loads(_guessed(empty_database, monkeypatch, tmp_path / "x"))
        plain.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        plain.run(UNTOLD)
        pointed = tomllib.loads(_guessed(empty_database, monkeypatch, tmp_path / "x"))

    assert [(watch["table"], watch["publish"]) for watch in linked["watch"]] == [
        ("public.shops_shop_cities", ["shop_id"])
    ]
    assert [level["name"] for level in linked["city"]["level"]] == ["region", "country"]
    assert [(watch["table"], watch["publish"]) for watch in pointed["watch"]] == [("public.spree_addresses", ["id"])]
    assert [level["parent"] for level in pointed["city"]["level"]] == ["state_id"]


def test_what_cannot_be_guessed_is_said(empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Plain(empty_database) as plain:
        plain.run(CLASSIFIEDS)
        plain.run("CREATE TABLE board.offers (id uuid PRIMARY KEY, user_id bigint, title text); DROP TABLE board.ads")

    guessed = _guessed(empty_database, monkeypatch, tmp_path / "x")

    assert 'id = "id"    # uuid: keys have to be smallint, integer or bigint' in guessed
    assert "let exists say which rows are cities" in guessed


def test_an_empty_database_and_one_that_is_adopted_offer_none_of_our_tables(
    empty_database: str, adopted_kufar: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "No table looks like one of city rows" in _guessed(empty_database, monkeypatch, tmp_path / "x")
    assert "citycache." not in _guessed(adopted_kufar, monkeypatch, tmp_path / "x")
