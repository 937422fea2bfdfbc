"""Marketplaces to copy from: their rows, and adopting them, take seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adopt import marketplace, shop
from tests.servers import Databases


@pytest.fixture
def kufar(databases: Databases) -> Iterator[str]:
    """The URL of the real case's database, as it was before us."""
    with databases.like("kufar", marketplace.kufar) as url:
        yield url


@pytest.fixture
def adopted_kufar(databases: Databases) -> Iterator[str]:
    """The same, adopted."""
    with databases.like("adopted_kufar", marketplace.adopted_kufar) as url:
        yield url


@pytest.fixture
def adopted_shop(databases: Databases) -> Iterator[str]:
    """The URL of the shop's database, adopted."""
    with databases.like("adopted_shop", lambda url: shop.shop_at(url).adopt()) as url:
        yield url
