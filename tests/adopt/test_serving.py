"""The API, the doctor and the observer beside an adopted catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from backend.app.adopting.attaching import Attaching, attach
from backend.app.main import create_app
from tests.adopt import marketplace
from tests.adopt.following import beside, follow
from tests.adopt.marketplace import KUFAR, Marketplace
from tests.plain import Plain


@pytest.fixture
def market(adopted_kufar: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marketplace]:
    market = Marketplace(adopted_kufar, KUFAR / "catalog.toml")
    monkeypatch.setenv("OBSERVER", "false")
    with beside(market, monkeypatch):
        yield market


def test_reads_work_and_writes_are_left_to_the_catalogs_owner(market: Marketplace) -> None:
    with TestClient(create_app(), base_url="http://localhost") as api, Plain(market.url) as plain:
        tree = api.get("/api/v1/cities/tree?count=products")
        assert tree.status_code == 200
        assert {place["level"] for place in tree.json()} == {"country"}
        counted = plain.one("SELECT sum(products_count) FROM citycache.city_counts")
        assert sum(place["count"] for place in tree.json()) == counted
        again = api.get("/api/v1/cities/tree?count=products", headers={"If-None-Match": tree.headers["etag"]})
        assert again.status_code == 304
        for path in ("/cities?limit=2", "/companies/3", "/products/3", "/caches/explain/product/3"):
            assert api.get(f"/api/v1{path}").status_code == 200, path
        assert api.post("/api/v1/cities", json={"name": "x"}).status_code == 409
        assert api.patch("/api/v1/products/3", json={"name": "x"}).status_code == 409
        assert api.delete("/api/v1/companies/3").status_code == 409
    imported = market.run("import", "-")
    assert imported.code == 2


def test_events_alone_follow_what_the_marketplace_does_all_day(market: Marketplace) -> None:
    with Plain(market.url) as plain:
        for statement in marketplace.writes():
            plain.run(statement)
            follow()
            assert marketplace.counted(plain) == marketplace.wanted(plain), statement


PLACES = """
WITH counted AS (
    SELECT city.id, city.name, city.region_id, coalesce(products_count, 0)::int AS count
      FROM public.cities AS city LEFT JOIN citycache.city_counts ON city_id = city.id WHERE city.is_active
), region AS (
    SELECT id, name, country_id, federal_district_id AS district_id,
           (SELECT coalesce(sum(count), 0) FROM counted WHERE region_id = region.id)::int AS count
      FROM public.regions AS region
), district AS (
    SELECT id, name, country_id,
           (SELECT coalesce(sum(count), 0) FROM region WHERE district_id = district.id)::int AS count
      FROM public.federal_districts AS district
), below_country AS (
    SELECT country_id, count FROM district UNION ALL SELECT country_id, count FROM region WHERE district_id IS NULL
)
SELECT 'city', id, name, count, 'region', region_id FROM counted
UNION ALL SELECT 'region', id, name, count, 'country', country_id FROM region WHERE district_id IS NULL
UNION ALL SELECT 'region', id, name, count, 'federal_district', district_id FROM region WHERE district_id IS NOT NULL
UNION ALL SELECT 'federal_district', id, name, count, 'country', country_id FROM district
UNION ALL SELECT 'country', id, name,
                 (SELECT coalesce(sum(count), 0) FROM below_country WHERE country_id = country.id)::int, NULL, NULL
            FROM public.countries AS country"""


def places(found: list[dict[str, Any]], *above: Any) -> Iterator[tuple[Any, ...]]:
    """All of a tree, each with what it hangs on; by name on each branch."""
    assert found == sorted(found, key=lambda place: (place["name"], place["id"]))
    for place in found:
        yield place["level"], place["id"], place["name"], place["count"], *(above or (None, None))
        yield from places(place["children"], place["level"], place["id"])


def test_the_tree_is_that_of_the_tables_as_they_are_now(market: Marketplace) -> None:
    moves = (
        "UPDATE public.regions SET name = 'Ärger \"und\" \\' || id WHERE id % 2 = 0",
        "UPDATE public.regions SET federal_district_id = NULL WHERE id = (SELECT max(id) FROM public.regions)",
        "UPDATE citycache.city_counts SET products_count = products_count + city_id WHERE city_id % 3 = 0",
        "UPDATE public.cities SET is_active = false WHERE id % 5 = 0",
        "UPDATE public.cities SET name = name",
    )
    with TestClient(create_app(), base_url="http://localhost") as api, Plain(market.url) as plain:
        for statement in moves:
            plain.run(statement)
            wanted = sorted(plain.all(PLACES), key=str)
            for query, shown in (("all=true", wanted), ("", [row for row in wanted if row[3]])):
                tree = api.get(f"/api/v1/cities/tree?{query}").json()
                assert sorted(places(tree), key=str) == shown, statement


def test_what_breaks_silently_is_named_and_what_came_later_is_captured(market: Marketplace) -> None:
    with Plain(market.url) as plain:
        assert market.run("doctor").code == 0
        plain.run("ALTER TABLE companies DISABLE TRIGGER citycache_company_updated")
        plain.run("CREATE TABLE public.more_products () INHERITS (public.products)")

        told = json.loads(market.run("doctor", "--json").out)
        sentences = [finding["found"] for finding in told["findings"] if not finding["is_well"]]
        assert any("companies has triggers that are switched off" in sentence for sentence in sentences)
        assert any("more_products lacks triggers" in sentence for sentence in sentences)

        assert [name.partition(" on ")[2] for name in attach()] == ["public.more_products"] * 4
        plain.run("""
            INSERT INTO more_products (name, slug, article, type, price, company_id)
            SELECT 'n', 'more', 'm', 'GOOD', 1, id FROM companies WHERE is_active AND city_id IS NOT NULL LIMIT 1""")
        follow()
        assert marketplace.counted(plain) == marketplace.wanted(plain)


def test_rows_that_went_with_a_table_leave_the_caches(market: Marketplace) -> None:
    attaching = Attaching()
    with Plain(market.url) as plain:
        plain.run("CREATE TABLE more_products () INHERITS (products)")
        attaching.run_once()
        plain.run("""
            INSERT INTO more_products (name, slug, article, type, price, company_id)
            SELECT 'n', 'more ' || id, 'm', 'GOOD', 1, id FROM companies WHERE is_active AND city_id IS NOT NULL""")
        follow()
        for leaving in ("ALTER TABLE more_products NO INHERIT products", "DROP TABLE more_products"):
            plain.run(leaving)
            gone = attaching.run_once()
            plain.run("UPDATE companies SET is_active = NOT is_active WHERE id = 1")
            follow()
            assert marketplace.counted(plain) == marketplace.wanted(plain), leaving
            assert gone == (["more_products"] if "NO INHERIT" in leaving else [])
