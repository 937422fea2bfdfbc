"""Batches start as slots are free; a large one has a while for itself, and nobody waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from backend.app.worker.starting import ALONE_SECONDS, KEYS_A_LANE, SHORT_SECONDS, InFlight, is_bulk_next, pause

LANES = 64
NOW = 1_000.0
TICK = 0.001  # no timer is finer
BATCH = some.builds(InFlight, some.integers(0, 5_000), some.floats(NOW - 100, NOW), some.booleans())
BATCHES = some.lists(BATCH, max_size=10)
SLOTS = some.integers(1, 8)


def is_large(batch: InFlight) -> bool:
    return batch.keys > KEYS_A_LANE * LANES


@given(BATCHES, SLOTS)
def test_there_are_never_more_than_slots(batches: list[InFlight], slots: int) -> None:
    assert (pause(batches, slots, LANES, NOW) is None) == (len(batches) >= slots)


@given(BATCHES, SLOTS)
def test_nobody_waits_longer_for_a_large_one_than_it_may_be_alone(batches: list[InFlight], slots: int) -> None:
    wait = pause(batches, slots, LANES, NOW)
    if wait is not None:
        assert 0 <= wait <= ALONE_SECONDS
        assert pause(batches, slots, LANES, NOW + ALONE_SECONDS + TICK) == 0


@given(BATCHES, SLOTS)
def test_only_one_that_is_young_is_waited_for(batches: list[InFlight], slots: int) -> None:
    alone = {True: ALONE_SECONDS, False: SHORT_SECONDS}
    young = [one for one in batches if one.started + alone[is_large(one)] > NOW]
    if wait := pause(batches, slots, LANES, NOW):
        assert young
    elif wait is not None:
        assert not young


@given(some.lists(some.tuples(some.integers(1, 5_000), some.floats(0.001, 2)), min_size=1, max_size=40), SLOTS)
def test_all_start_in_their_order_however_long_those_before_them_take(
    work: list[tuple[int, float]], slots: int
) -> None:
    now, running, started = 0.0, [], []
    for keys, seconds in work:
        while (wait := pause([batch for batch, _ in running], slots, LANES, now)) != 0:
            first_end = min(end for _, end in running)
            now = first_end if wait is None else min(first_end, now + max(wait, TICK))
            running = [(batch, end) for batch, end in running if end > now]
        running.append((InFlight(keys, now), now + seconds))
        started.append(now)

    assert len(started) == len(work)
    assert started == sorted(started)


@given(some.lists(some.integers(1, 8), max_size=60), SLOTS)
def test_neither_lone_events_nor_bulk_wait_for_ever_for_the_other(ends: list[int], slots: int) -> None:
    """Both wait all the time; before each start, once all slots are taken, as many of the oldest batches end."""
    in_flight: list[InFlight] = []
    was_bulk, lone_in_turn = False, 0
    for ended in ends:
        if len(in_flight) >= slots:
            in_flight = in_flight[ended:]
        has_bulk = any(batch.is_bulk for batch in in_flight)
        is_bulk = is_bulk_next(in_flight, was_bulk)
        assert not (is_bulk and was_bulk)
        lone_in_turn = 0 if is_bulk or has_bulk else lone_in_turn + 1
        assert lone_in_turn <= 1
        in_flight.append(InFlight(1, NOW, is_bulk))
        was_bulk = is_bulk
