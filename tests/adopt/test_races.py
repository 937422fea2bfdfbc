"""Two transactions of which neither sees the other: whichever commits first, the caches are right in the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adopt.following import beside, follow
from tests.adopt.marketplace import Marketplace
from tests.adopt.shop import DEFINITION, SHOP, changed, violations
from tests.plain import Plain

MOVES = {  # a row that decides, and a row that comes to hang on it
    "a link and its address": (
        'UPDATE shop.addresses SET "stadt Nr" = 9 WHERE id = 7',
        "UPDATE shop.seller_addresses SET address_id = 7 WHERE seller_id = 5",
    ),
    "an address and its city": (
        'UPDATE "Orte"."Städte" SET offen = false WHERE "Nr" = 3',
        'UPDATE shop.addresses SET "stadt Nr" = 3 WHERE id BETWEEN 20 AND 30',
    ),
    "a product and its company": (
        "UPDATE shop.sellers SET state = 'shut' WHERE id = 5",
        "UPDATE shop.goods SET seller = 5 WHERE id BETWEEN 100 AND 140",
    ),
    "a link that leaves a company": (
        "UPDATE shop.seller_addresses SET seller_id = 55 WHERE seller_id = 8",
        'UPDATE shop.addresses SET "stadt Nr" = 2 WHERE id = 8',
    ),
}


@pytest.fixture
def shop(adopted_shop: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marketplace]:
    market = Marketplace(adopted_shop, SHOP / "catalog.toml")
    with beside(market, monkeypatch):
        yield market


def test_a_row_that_decides_and_one_that_comes_to_hang_on_it_commit_in_either_order(shop: Marketplace) -> None:
    for deciding, hanging in MOVES.values():
        for first, second in ((deciding, hanging), (hanging, deciding)):
            _interleave(shop.url, first, second)


def _interleave(url: str, first: str, second: str) -> None:
    """Both write before either commits; the events of the first are applied before the second commits."""
    with Plain(url, autocommit=False) as one, Plain(url, autocommit=False) as other, Plain(url) as reader:
        one.run(first)
        other.run(second)
        one.commit()
        follow()
        other.commit()
        follow()
        assert violations(reader) == [], (first, second)


def test_a_set_larger_than_a_batch_is_worked_off_in_chunks(shop: Marketplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDE_PATCH_KEYS", "3")
    with beside(shop, monkeypatch), Plain(shop.url) as plain:
        for is_open in ("false", "true"):
            plain.run(f'UPDATE "Orte"."Städte" SET offen = {is_open} WHERE "Nr" IN (2, 4)')
            follow()
            assert violations(plain) == []
        assert plain.one('SELECT count(*) FROM "City Cache".wide_watches') == 0


def test_a_column_that_is_renamed_holds_events_until_the_definition_follows(
    shop: Marketplace, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Plain(shop.url) as plain:
        plain.run("ALTER TABLE shop.sellers RENAME state TO status")
        plain.run("UPDATE shop.sellers SET status = 'shut' WHERE id % 3 = 0")
        plain.run("UPDATE shop.sellers SET title = 'new' WHERE id = 1")
        assert plain.one('SELECT count(*) FROM "City Cache".event_outbox') == 21

        sick = shop.run("doctor")
        assert sick.code == 1
        assert "shop.sellers has no column state" in sick.out

        shop.file = tmp_path_factory.mktemp("definition") / "catalog.toml"
        shop.file.write_text(changed(DEFINITION, {"state = 'live'": "status = 'live'"}), encoding="utf-8")
        shop.adopt()
        with beside(shop, monkeypatch):
            follow()
        plain.run("ALTER TABLE shop.sellers RENAME status TO state")
        assert violations(plain) == []
