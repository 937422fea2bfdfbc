"""The checker of histories finds what could not have been, and nothing else."""

from __future__ import annotations

import pytest

from tests.faults.history import Read, Value, Write, violations

WRITES = [Write("product/1", 10, 1.0, 1.1), Write("product/1", 11, 2.0, 2.1), Write("product/1", 12, 3.0, None)]
BOUND = 0.5


def read(value: Value, begin: float, is_fresh: bool = False, client: int = 0) -> Read:
    return Read("product/1", client, value, begin, begin + 0.05, is_fresh)


def test_what_could_have_been_is_no_violation() -> None:
    """Before, during and after a write; a write without an answer may have happened, or not."""
    could = [
        [read(None, 0.5, True), read(None, 1.5), read(10, 1.5), read(10, 1.9, True), read(10, 2.4)],
        [read(11, 2.5, True)],
        [read(11, 1.98), read(11, 3.2, True), read(12, 9.0, True)],
        [read(11, 2.2, client=0), read(10, 2.3, client=1)],
    ]  # fmt: skip
    assert [violations(WRITES, reads, BOUND) for reads in could] == [[], [], [], []]


@pytest.mark.parametrize(
    ("reads", "why"),
    [
        ([read(10, 2.2, True)], "though it said fresh"),  # a look that was older than the write
        ([read(None, 1.2, True)], "though it said fresh"),
        ([read(10, 2.7)], "more than 0.5 s"),
        ([read(11, 2.2), read(10, 2.3)], "it had seen 11 before"),
        ([read(12, 3.1), read(11, 3.2)], "it had seen 12 before"),
        ([read(12, 2.5)], "nobody had written that"),
        ([read(99, 2.5)], "nobody had written that"),
    ],
)
def test_what_could_not_have_been_is_found(reads: list[Read], why: str) -> None:
    found = violations(WRITES, reads, BOUND)
    assert len(found) == 1
    assert why in found[0]
