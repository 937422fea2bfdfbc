"""Adopting tables that were there before, and letting go of them again."""

from __future__ import annotations

import json

import pytest

from tests.adopt import marketplace
from tests.adopt.marketplace import KUFAR, Marketplace
from tests.plain import Plain

THEIRS = """
    SELECT 'mapping', count(*)::text FROM public.product_city_mapping UNION ALL
    SELECT 'active', count(*)::text FROM public.active_cities_cache UNION ALL
    SELECT 'version', version_num FROM public.alembic_version UNION ALL
    SELECT 'table', string_agg(relname, ',' ORDER BY relname) FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"""


@pytest.fixture
def market(kufar: str) -> Marketplace:
    return Marketplace(kufar, KUFAR / "catalog.toml")


def test_adopting_fills_the_caches_and_touches_no_table_of_theirs(market: Marketplace) -> None:
    with Plain(market.url) as plain:
        before = plain.all(THEIRS)

        market.adopt()

        assert marketplace.counted(plain) == marketplace.wanted(plain)
        assert plain.all(THEIRS) == before
        assert plain.one("SELECT count(*) FROM citycache.event_outbox") == 0
    verified = market.run("verify", "--json")
    assert (verified.code, json.loads(verified.out)["agrees"]) == (0, True)


def test_releasing_leaves_the_schema_as_it_was(market: Marketplace) -> None:
    before = market.dump()
    market.adopt()

    shown = market.run("release")
    released = market.run("release", "--apply")

    assert (shown.code, released.code) == (0, 0), released.err
    assert "citycache_product_updated on public.products" in shown.out
    assert market.dump() == before
    assert market.run("release", "--apply").code == 1


def test_the_plan_changes_nothing_and_says_what_it_would_do(market: Marketplace) -> None:
    before = market.dump()

    planned = market.run("adopt", "--json")

    told = json.loads(planned.out)
    assert (planned.code, told["possible"]) == (0, True)
    assert "SHARE ROW EXCLUSIVE on public.products" in told["locks"]
    assert any("CREATE OR REPLACE TRIGGER citycache_company_updated" in statement for statement in told["sql"])
    assert market.dump() == before


def test_a_wrong_file_is_answered_with_2(market: Marketplace, tmp_path: object) -> None:
    market.file = KUFAR / "rows.sql"

    ran = market.run("adopt")

    assert ran.code == 2
    assert "rows.sql" in ran.err


def test_events_carry_what_the_definition_uses_and_nothing_else(market: Marketplace) -> None:
    market.adopt()
    with Plain(market.url) as plain:
        plain.run("UPDATE companies SET total_views = total_views + 1, phone = '+1', email = 'x@example.org'")
        plain.run("UPDATE products SET price = price + 1, updated_at = now()")
        assert plain.one("SELECT count(*) FROM citycache.event_outbox") == 0

        plain.run("UPDATE companies SET is_active = NOT is_active, phone = '+2' WHERE id = 1")

        ((kind, subject, before, after),) = plain.all("SELECT type, subject, before, after FROM citycache.event_outbox")
        assert (kind, subject) == ("catalog.company.updated", "company/1")
        assert set(before) == set(after) == {"id", "name", "city", "city_id", "is_active"}


def test_a_changed_definition_is_shown_before_it_counts(market: Marketplace, tmp_path: object) -> None:
    market.adopt()
    changed = KUFAR.joinpath("catalog.toml").read_text(encoding="utf-8").replace("NOT is_hidden AND ", "")
    market.file = tmp_path / "catalog.toml"  # type: ignore[operator]
    market.file.write_text(changed, encoding="utf-8")

    told = json.loads(market.run("adopt", "--json").out)["would_change"]

    with Plain(market.url) as plain:
        hidden = plain.one("""
            SELECT count(*) FROM products p JOIN companies c ON c.id = p.company_id JOIN cities t ON t.id = c.city_id
             WHERE p.is_hidden AND NOT p.is_deleted AND c.is_active AND c.city <> '' AND t.is_active""")
        assert told["numbers"]["product_city_mapping"] == hidden
        before = plain.one("SELECT count(*) FROM citycache.product_city_mapping")
        market.adopt()
        assert plain.one("SELECT count(*) FROM citycache.product_city_mapping") == before + hidden


def test_a_table_that_a_crash_empties_is_told(market: Marketplace) -> None:
    with Plain(market.url) as plain:
        plain.run("ALTER TABLE products SET UNLOGGED")

    planned = market.run("adopt")

    assert planned.code == 0
    assert "public.products is emptied by a crash of the server" in planned.out
