"""The console of an empty catalog, of a demo, and of tables that were there before and have no coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.stage import SMALL, Shown, chromium, violations
from tests.adopt import marketplace
from tests.adopt.marketplace import KUFAR, Marketplace
from tests.plain import Plain
from tests.system import System


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def test_an_empty_catalog_offers_how_to_begin_until_it_has_a_city(
    database: str, broker: str, browser: Browser, tmp_path: Path
) -> None:
    with System(database, broker, tmp_path, OBSERVER="false", DEMO="true") as system:
        system.start(["api"])
        with Shown(system, browser).page(key="") as visit, Plain(database) as plain:
            offers = visit.page.locator("#empty li pre")
            expect(offers).to_have_count(3)
            expect(offers.first).to_have_text("citycache up --demo")
            expect(offers.last).to_contain_text(f" {system.api_url}/api/v1/cities")
            expect(visit.page.locator("#demo")).to_have_text(
                "This is a demo: its data are a recorded history, played slowly."
            )
            assert violations(visit.page) == []
            plain.run("INSERT INTO cities (name) VALUES ('Quito')")
            plain.run("INSERT INTO city_counts (city_id) SELECT id FROM cities")
            expect(visit.page.locator("#empty")).to_be_hidden()
            visit.leaves_no_trace()


def test_a_catalog_without_coordinates_has_levels_instead_of_the_map(
    empty_database: str, broker: str, browser: Browser, tmp_path: Path
) -> None:
    marketplace.kufar(empty_database)
    market = Marketplace(empty_database, KUFAR / "catalog.toml", broker)
    market.adopt()
    with System(empty_database, broker, tmp_path, OBSERVER="false", CATALOG_FILE=str(market.file)) as system:
        system.start(["api"])
        phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
        with Shown(system, browser).page(key="", query="lang=ru#map", **phone) as visit:
            visit.page.locator("#tree summary").first.wait_for()
            assert visit.page.evaluate(SMALL) == []
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
        with Shown(system, browser).page(key="") as visit, Plain(empty_database) as plain:
            page = visit.page
            widest = page.locator("#tree > ul > li > details > summary")
            expect(page.locator("#map-figure")).to_be_hidden()
            expect(page.locator("#demo")).to_be_hidden()
            names = plain.column("SELECT name FROM countries")
            assert set(widest.locator(".name").all_inner_texts()) <= set(names)
            told = [int(text.replace(",", "")) for text in widest.locator(".value").all_inner_texts()]
            assert sum(told) == plain.one("SELECT sum(products_count) FROM citycache.city_counts")
            assert told == sorted(told, reverse=True)
            city = page.locator("#tree a").first
            while not city.is_visible():
                page.locator("#tree details:not([open]) > summary").first.click()
            assert violations(page, "#map") == []
            name = city.inner_text()
            city.click()
            expect(page.locator("#detail-title")).to_have_text(name)
            visit.leaves_no_trace()
