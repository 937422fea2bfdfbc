"""Batches that are no batches: a reader is through with them soon, in little memory, and says what they are."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from backend.app.worker.consumer import read_parts
from events import contract
from events.contract import MOST_EVENTS

EVENT = contract.event("e", "catalog.city.updated", "city/1", "2026-11-26T00:00:00Z", None, None, None)
GOOD = contract.encode_one(EVENT)
MOST_BYTES = 10 * 2**20  # that Python may take for a message of 200 kB


def body(part: bytes, parts: int, *others: bytes) -> bytes:
    return contract.join([*[part] * parts, *others])


@pytest.mark.parametrize("part", [b"1", b"{}", json.dumps("x").encode()])
def test_what_is_no_event_is_one_letter_and_hides_no_event_beside_it(part: bytes) -> None:
    hints, (letter,) = read_parts(body(part, MOST_EVENTS, GOOD), contract.BATCH, {})

    assert [hint.id for hint in hints] == [1]
    assert letter.reason.startswith("not a CloudEvent: ")
    assert letter.reason.endswith(f", and {MOST_EVENTS - 1} more parts of it")


@pytest.mark.parametrize("part", [b"1", b"{}"])
def test_more_of_it_than_a_batch_has_events_is_not_read_to_its_end(part: bytes) -> None:
    hints, (letter,) = read_parts(body(part, MOST_EVENTS + 1, *[part, GOOD] * 1_000), contract.BATCH, {})

    assert hints == []
    assert letter.reason.endswith(f", and {MOST_EVENTS} more parts of it; what follows is not looked at")


@pytest.mark.parametrize("part", [b"1", b"{}"])
def test_a_batch_takes_little_memory(part: bytes) -> None:
    odd = body(part, 100_000 // len(part))

    tracemalloc.start()
    _, letters = read_parts(odd, contract.BATCH, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(letters) == 1
    assert peak < MOST_BYTES
