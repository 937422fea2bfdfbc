"""Adopting and letting go, killed before any statement: run again they come to the same end, and leave nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import pytest

from backend.app.adopting.release import release
from backend.app.catalog import definition
from backend.app.errors import Refused
from tests.adopt.dying import dies
from tests.adopt.following import adopt_here, beside
from tests.adopt.marketplace import Marketplace
from tests.adopt.shop import shop_at, violations
from tests.plain import Plain

EVERY: Final = int(os.environ.get("KILL_EVERY", "61"))  # statement; 1 takes half an hour


@pytest.fixture
def shop(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marketplace]:
    market = shop_at(empty_database)
    with beside(market, monkeypatch):
        yield market


def _release() -> None:
    release(definition.current(), lambda sentence: None)


def _killed(work: Callable[[], None], every: int) -> Iterator[int]:
    """Have work killed before one statement after the other; which it was. It must be more than the first."""
    statement = 1
    while dies(work, statement):
        yield statement
        statement += every
    assert statement > 1 + every


@pytest.mark.timeout(580)
def test_adopting_that_was_killed_goes_on_when_it_is_run_again(shop: Marketplace) -> None:
    before = shop.dump()
    for statement in _killed(adopt_here, EVERY):
        adopt_here()
        with Plain(shop.url) as plain:
            assert violations(plain) == [], statement
        _release()
        assert shop.dump() == before, statement


@pytest.mark.timeout(580)
def test_whatever_a_killed_adopting_has_left_can_be_released(shop: Marketplace) -> None:
    before = shop.dump()
    for statement in _killed(adopt_here, EVERY):
        with suppress(Refused):  # it had not begun
            _release()
        assert shop.dump() == before, statement


@pytest.mark.timeout(580)
def test_letting_go_that_was_killed_goes_on_when_it_is_run_again(shop: Marketplace) -> None:
    before = shop.dump()
    adopt_here()
    for statement in _killed(_release, max(EVERY // 5, 1)):
        _release()
        assert shop.dump() == before, statement
        adopt_here()
