"""Adopting and letting go, killed before any statement: run again they come to the same end, and leave nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pytest

from backend.app.adopting.adopt import adopt
from backend.app.adopting.release import release
from backend.app.catalog import definition
from backend.app.errors import Refused
from tests.adopt.dying import dies
from tests.adopt.following import beside
from tests.adopt.marketplace import Marketplace
from tests.adopt.test_shapes import SHOP, violations
from tests.plain import Plain

EVERY: Final = int(os.environ.get("KILL_EVERY", "61"))  # statement; 1 takes half an hour


@pytest.fixture
def shop(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marketplace]:
    with Plain(empty_database) as plain:
        plain.run((SHOP / "schema.sql").read_text(encoding="utf-8"))
    market = Marketplace(empty_database, SHOP / "catalog.toml")
    with beside(market, monkeypatch):
        yield market


def _adopt() -> None:
    adopt(definition.current(), lambda sentence: None)


def _release() -> None:
    release(definition.current(), lambda sentence: None)


@pytest.mark.timeout(580)
def test_adopting_that_was_killed_goes_on_when_it_is_run_again(shop: Marketplace) -> None:
    before, statement = shop.dump(), 1
    while dies(_adopt, statement):
        _adopt()
        with Plain(shop.url) as plain:
            assert violations(plain) == [], statement
        _release()
        assert shop.dump() == before, statement
        statement += EVERY
    assert statement > EVERY


@pytest.mark.timeout(580)
def test_whatever_a_killed_adopting_has_left_can_be_released(shop: Marketplace) -> None:
    before, statement = shop.dump(), 1
    while dies(_adopt, statement):
        with suppress(Refused):  # it had not begun
            _release()
        assert shop.dump() == before, statement
        statement += EVERY


@pytest.mark.timeout(580)
def test_letting_go_that_was_killed_goes_on_when_it_is_run_again(shop: Marketplace) -> None:
    before, statement = shop.dump(), 1
    _adopt()
    while dies(_release, statement):
        _release()
        assert shop.dump() == before, statement
        _adopt()
        statement += max(EVERY // 5, 1)
