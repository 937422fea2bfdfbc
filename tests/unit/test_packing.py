"""Packing: rows become messages that keep the contract's limits, and nothing is lost, doubled or reordered."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from events import contract
from events.outbox import Row
from events.packing import messages

KINDS = st.sampled_from(contract.TYPES)


def row(number: int, kind: str = "catalog.product.updated", size: int = 1) -> Row:
    """An outbox row whose event has about `size` bytes more than the smallest."""
    after = json.dumps({"id": number, "name": "x" * size})
    return Row(number, f"e{number}", kind, f"product/{number}", "2026-01-01T00:00:00Z", None, after, None)


@given(st.lists(st.tuples(KINDS, st.integers(1, 40_000)), max_size=40))
def test_every_row_travels_once_and_in_order_within_the_limits(wanted: list[tuple[str, int]]) -> None:
    rows = [row(number, kind, size) for number, (kind, size) in enumerate(wanted)]

    packed = list(messages(rows))

    assert [row_id for message in packed for row_id in message.ids] == [row.id for row in rows]
    for message in packed:
        events = json.loads(message.body)
        assert [event["subject"] for event in events] == [f"product/{row_id}" for row_id in message.ids]
        assert {event["type"] for event in events} == {message.type}
        assert 1 <= len(events) <= contract.MOST_EVENTS
        assert len(message.body) <= contract.MOST_BYTES or len(events) == 1


@given(st.lists(st.tuples(KINDS, st.integers(1, 20_000)), min_size=1, max_size=60))
def test_no_two_neighbours_would_have_fitted_into_one_message(wanted: list[tuple[str, int]]) -> None:
    rows = [row(number, kind, size) for number, (kind, size) in enumerate(wanted)]

    packed = list(messages(rows))

    for one, next_one in itertools.pairwise(packed):
        first = json.dumps(json.loads(next_one.body)[0], separators=(",", ":"))
        fits = len(one.ids) < contract.MOST_EVENTS and len(one.body) + len(first) + 1 <= contract.MOST_BYTES
        assert one.type != next_one.type or not fits


def test_two_hundred_events_of_one_type_share_a_message_and_one_more_begins_the_next() -> None:
    packed = list(messages([row(number) for number in range(401)]))

    assert [len(message.ids) for message in packed] == [200, 200, 1]


def test_a_lone_event_is_an_array_of_one() -> None:
    (packed,) = messages([row(7)])

    assert len(json.loads(packed.body)) == 1


def test_an_event_larger_than_a_message_travels_alone() -> None:
    packed = list(messages([row(1), row(2, size=300_000), row(3)]))

    assert [message.ids for message in packed] == [[1], [2], [3]]


def test_nothing_makes_no_message() -> None:
    assert list(messages([])) == []
