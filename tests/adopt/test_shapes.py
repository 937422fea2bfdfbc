"""Tables of other shapes: whatever is written, events alone bring the caches to what plain SQL says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress

import pytest
from psycopg2.errors import UniqueViolation

from tests.adopt.following import beside, follow
from tests.adopt.marketplace import Marketplace
from tests.adopt.shop import SHOP, WRITES, violations
from tests.plain import Plain


@pytest.fixture
def shop(adopted_shop: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marketplace]:
    market = Marketplace(adopted_shop, SHOP / "catalog.toml")
    with beside(market, monkeypatch):
        yield market


@pytest.mark.parametrize("seed", range(2))
def test_events_alone_bring_the_caches_to_what_the_tables_say(shop: Marketplace, seed: int) -> None:
    chance = random.Random(seed)
    with Plain(shop.url) as plain:
        assert violations(plain) == []
        for step in range(40):
            done = [chance.choice(WRITES).format(n=chance.randrange(1, 900)) for _ in range(2)]
            for statement in done:
                with suppress(UniqueViolation):
                    plain.run(statement)
            follow(rows=chance.choice([1, 7, 2_000]) if step % 10 == 0 else 2_000)
            assert violations(plain) == [], done


def test_what_nobody_uses_makes_no_event(shop: Marketplace) -> None:
    with Plain(shop.url) as plain:
        plain.run("UPDATE shop.goods SET secret = 'changed'; UPDATE shop.addresses SET street = 'changed'")
        plain.run("UPDATE shop.addresses SET street = street; UPDATE shop.goods SET visible = visible")

        assert plain.one('SELECT count(*) FROM "City Cache".event_outbox') == 0
