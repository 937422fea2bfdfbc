"""One table of places that point at the wider ones: the tree has each in the level in which it is named from below."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi.testclient import TestClient

from backend.app.adopting.discover import discover
from backend.app.main import create_app
from tests.adopt.following import adopt_here, beside, follow
from tests.adopt.marketplace import Marketplace
from tests.plain import Plain

TABLES: Final = """
    CREATE TABLE places (id int PRIMARY KEY, within int REFERENCES places, kind text, title text);
    CREATE TABLE sellers (id int PRIMARY KEY, name text, place int REFERENCES places);
    CREATE TABLE ads (id int PRIMARY KEY, title text, seller int REFERENCES sellers);
    CREATE INDEX ON sellers (place); CREATE INDEX ON ads (seller);
    INSERT INTO places VALUES (1, NULL, 'country', 'Land'), (2, 1, 'region', 'North'), (3, 1, 'region', 'South'),
        (4, 2, 'city', 'Arnis'), (5, 3, 'city', 'Bonn'), (6, 3, 'city', 'Celle'), (7, 1, 'region', 'West');
    INSERT INTO sellers VALUES (1, 'S', 4), (2, 'T', 5), (3, 'in a region', 3);
    INSERT INTO ads VALUES (1, 'x', 1), (2, 'y', 2), (3, 'z', 2), (4, 'w', 3)"""
LEVEL: Final = '[[city.level]]\nname = "{name}"\ntable = "places"\nid = "id"\nlabel = "title"\nparent = "within"\n'
FILE: Final = (
    """[city]\ntable = "places"\nid = "id"\nname = "title"\nexists = "kind = 'city'"\n"""
    + LEVEL.format(name="region")
    + LEVEL.format(name="country")
    + '[company]\ntable = "sellers"\nid = "id"\nname = "name"\ncity = "place"\n'
    + '[product]\ntable = "ads"\nid = "id"\nname = "title"\ncompany = "seller"\n'
)


@pytest.fixture
def market(empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Marketplace]:
    market = Marketplace(empty_database, tmp_path / "catalog.toml")
    market.file.write_text(FILE, encoding="utf-8")
    with Plain(empty_database) as plain:
        plain.run(TABLES)
    monkeypatch.setenv("OBSERVER", "false")
    with beside(market, monkeypatch):
        adopt_here()
        yield market


def _tree(everything: bool) -> list[Any]:
    with TestClient(create_app(), base_url="http://localhost") as api:
        answer = api.get(f"/api/v1/cities/tree?count=products{'&all=true' if everything else ''}").json()
    return [_short(place) for place in answer]


def _short(place: dict[str, Any]) -> tuple[str, str, int, list[Any]]:
    return place["level"], place["name"], place["count"], [_short(below) for below in place["children"]]


def test_each_place_stands_in_one_level(market: Marketplace) -> None:
    north = ("region", "North", 1, [("city", "Arnis", 1, [])])
    south = ("region", "South", 2, [("city", "Bonn", 2, [])])
    with_empty = ("region", "South", 2, [("city", "Bonn", 2, []), ("city", "Celle", 0, [])])

    assert _tree(everything=False) == [("country", "Land", 3, [north, south])]
    assert _tree(everything=True) == [("country", "Land", 3, [north, with_empty])]


def test_a_place_that_becomes_a_city_is_one(market: Marketplace) -> None:
    with Plain(market.url) as plain:
        plain.run("UPDATE places SET kind = 'city' WHERE id = 3")
        follow()
        plain.run("UPDATE places SET kind = 'region' WHERE id = 5")
        follow()
        held = plain.all(
            "SELECT city_id, products_count FROM citycache.city_counts WHERE products_count > 0 ORDER BY 1"
        )
    assert held == [(3, 1), (4, 1)]


def test_what_one_table_of_places_needs_is_said(market: Marketplace) -> None:
    assert "# public.places points at itself" in discover()
