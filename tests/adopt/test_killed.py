"""Adopting and letting go, killed or cut off before any statement: run again they come to the same end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event
from typing import Final

import pytest

from backend.app.adopting import adopt
from backend.app.adopting.applied import resolved
from backend.app.adopting.release import release
from backend.app.catalog import definition
from backend.app.errors import Refused
from tests.adopt.dying import dies, is_cut_off
from tests.adopt.following import adopt_here, beside
from tests.adopt.marketplace import Marketplace
from tests.adopt.shop import shop_at, violations
from tests.background import background
from tests.plain import Plain
from tests.waiting import until

EVERY: Final = int(os.environ.get("KILL_EVERY", "61"))  # statement; 1 takes half an hour
End = Callable[[Callable[[], None], int], bool]
WAITING: Final = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
     WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"""
WAYS: Final = pytest.mark.parametrize("end", [dies, is_cut_off])


@pytest.fixture
def shop(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marketplace]:
    market = shop_at(empty_database)
    with beside(market, monkeypatch):
        yield market


def _release() -> None:
    release(definition.current(), lambda sentence: None)


def _ended(end: End, work: Callable[[], None], every: int) -> Iterator[int]:
    """Have work ended before one statement after the other; which it was. It must be more than the first."""
    statement = 1
    while end(work, statement):
        yield statement
        statement += every
    assert statement > 1 + every


@WAYS
@pytest.mark.timeout(580)
def test_adopting_that_was_killed_goes_on_when_it_is_run_again(shop: Marketplace, end: End) -> None:
    before = shop.dump()
    for statement in _ended(end, adopt_here, EVERY):
        adopt_here()
        with Plain(shop.url) as plain:
            assert violations(plain) == [], statement
        _release()
        assert shop.dump() == before, statement


@WAYS
@pytest.mark.timeout(580)
def test_whatever_a_killed_adopting_has_left_can_be_released(shop: Marketplace, end: End) -> None:
    before = shop.dump()
    for statement in _ended(end, adopt_here, EVERY):
        with suppress(Refused):  # it had not begun
            _release()
        assert shop.dump() == before, statement


@WAYS
@pytest.mark.timeout(580)
def test_letting_go_that_was_killed_goes_on_when_it_is_run_again(shop: Marketplace, end: End) -> None:
    before = shop.dump()
    adopt_here()
    for statement in _ended(end, _release, max(EVERY // 5, 1)):
        _release()
        assert shop.dump() == before, statement
        adopt_here()


def test_a_server_that_is_lost_is_no_mistake_in_the_file(shop: Marketplace) -> None:
    for statement in range(2, 60, 7):
        assert is_cut_off(lambda: resolved(definition.current()), statement), statement


def test_who_follows_a_killed_one_at_once_waits_until_its_lock_is_free(shop: Marketplace) -> None:
    with Plain(shop.url) as killed, Plain(shop.url) as plain:
        killed.run("SELECT pg_advisory_lock(%s)", (adopt.LOCK,))

        def free(_: Event) -> None:
            until(lambda: plain.one(WAITING), 10, "it waits for the lock")
            killed.close()

        with background(free):
            adopt_here()
        assert violations(plain) == []


def test_two_do_not_get_into_each_others_way(shop: Marketplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "LOCK_SECONDS", 0.5)
    before = shop.dump()
    with Plain(shop.url) as other:
        other.run("SELECT pg_advisory_lock(%s)", (adopt.LOCK,))
        with pytest.raises(Refused, match="another adopt or release is under way"):
            adopt_here()
    assert shop.dump() == before
