"""A changed definition: the plan says how many rows of each cache will change, and as many do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from backend.app.adopting.plan import plan
from backend.app.catalog import definition
from tests.adopt.following import adopt_here, beside
from tests.adopt.marketplace import Marketplace
from tests.adopt.shop import DEFINITION, changed
from tests.plain import Plain

CACHES: Final = {
    "company_city_mapping": "company_id, city_id",
    "product_city_mapping": "product_id, city_id, company_id, kind",
    "city_counts": "city_id, products_count, services_count, companies_count",
    "active_cities_cache": "cache_type, active_city_ids, total_cities, total_companies, total_products",
}
CHANGES: Final = (
    ("visible AND NOT gone", "visible"),
    ("state = 'live'", "state <> 'live' OR id % 3 = 0"),
    ('exists = "offen"', "exists = 'offen AND \"Nr\" < 5'"),
    ("THEN 'product' ELSE 'service'", "THEN 'service' ELSE 'product'"),
    ("l.is_main ORDER BY a.id LIMIT 1", "l.is_main ORDER BY a.id OFFSET 1 LIMIT 1"),
)


@pytest.fixture
def shop(adopted_shop: str, tmp_path: Path) -> Marketplace:
    market = Marketplace(adopted_shop, tmp_path / "catalog.toml")
    market.file.write_text(DEFINITION, encoding="utf-8")
    return market


def test_as_many_rows_change_as_the_plan_has_said(shop: Marketplace, monkeypatch: pytest.MonkeyPatch) -> None:
    with Plain(shop.url) as plain:
        for old, new in CHANGES:
            shop.file.write_text(changed(shop.file.read_text(encoding="utf-8"), {old: new}), encoding="utf-8")
            before = _rows(plain)
            with beside(shop, monkeypatch):
                said = plan(definition.current()).would_change
                assert _rows(plain) == before
                adopt_here()
            assert said is not None
            assert any(said["numbers"].values()), new
            assert said["numbers"] == _differing(before, _rows(plain)), new


def _rows(plain: Plain) -> dict[str, dict[Any, tuple[Any, ...]]]:
    held = {cache: plain.all(f'SELECT {columns} FROM "City Cache".{cache}') for cache, columns in CACHES.items()}
    return {cache: {row[0]: row for row in rows} for cache, rows in held.items()}


def _differing(before: dict[str, dict[Any, Any]], after: dict[str, dict[Any, Any]]) -> dict[str, int]:
    return {
        cache: sum(before[cache].get(key) != after[cache].get(key) for key in {*before[cache], *after[cache]})
        for cache in CACHES
    }
