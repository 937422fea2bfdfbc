"""Which transactions a batch of keys needs."""

from __future__ import annotations

from typing import NoReturn

import pytest

from backend.app import db
from backend.app.caches.apply import Plan, plan
from backend.app.caches.keys import Keys


def _away() -> NoReturn:
    raise AssertionError("the database was asked")


@pytest.fixture(autouse=True)
def _without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "transaction", _away)


@pytest.mark.parametrize("truncated", [False, True])
def test_products_and_cities_are_planned_without_the_database(truncated: bool) -> None:
    assert plan(Keys([1, 2], (), [3]), truncated, 10) == Plan([Keys([1, 2], [], [3])], everything=truncated)
    assert plan(Keys([1, 2, 3], (), ()), truncated, 2).parts == [Keys([1, 2]), Keys([3])]


def test_companies_and_watched_rows_are_asked_for() -> None:
    with pytest.raises(AssertionError, match="was asked"):
        plan(Keys((), [1], ()))
    with pytest.raises(AssertionError, match="was asked"):
        plan(Keys(), changes=[1])
