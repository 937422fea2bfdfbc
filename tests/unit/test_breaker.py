"""Transactions shrink when one took too long, and grow again when none does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from backend.app.caches.keys import Keys
from backend.app.worker.breaker import DOUBLE_SECONDS, SHRINK, Breaker

FULL = 4_000
IDS = some.lists(some.integers(-(2**63), 2**63 - 1), unique=True, max_size=60)


class Clock:
    """Seconds that the test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_transaction_that_took_too_long_is_followed_by_smaller_ones_down_to_one_key() -> None:
    breaker = Breaker(Clock())
    sizes = [FULL]
    while sizes[-1] > 1:
        breaker.shrink(sizes[-1])
        sizes.append(breaker.most(FULL))

    assert sizes == [4_000, 500, 62, 7, 1]
    breaker.shrink(1)
    assert breaker.most(FULL) == 1


def test_grows_slowly_again() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    breaker.shrink(FULL)

    clock.now = DOUBLE_SECONDS
    assert breaker.most(FULL) == 2 * FULL // SHRINK
    clock.now = 10 * DOUBLE_SECONDS
    assert breaker.most(FULL) == FULL


def test_a_key_that_is_slow_by_itself_makes_no_other_transaction_smaller() -> None:
    breaker = Breaker(Clock())
    breaker.shrink(1)

    breaker.forgive()

    assert breaker.most(FULL) == FULL


@given(some.lists(some.one_of(some.integers(1, 10_000), some.floats(0, 1_000))))
def test_is_never_above_what_is_full_nor_below_one(story: list[float]) -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for event in story:
        if isinstance(event, int):
            breaker.shrink(event)
        else:
            clock.now += event
        assert 1 <= breaker.most(FULL) <= FULL


@given(IDS, IDS, IDS, some.integers(2, 10))
def test_no_key_is_lost_or_doubled_when_a_part_is_split(
    products: list[int], companies: list[int], cities: list[int], number: int
) -> None:
    keys = Keys(products, companies, cities)
    if len(keys) < 2:
        return

    parts = keys.split(number)

    assert sorted(named for part in parts for named in part.named()) == sorted(keys.named())
    assert all(0 < len(part) < len(keys) for part in parts)
    assert len(parts) <= number
