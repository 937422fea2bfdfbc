"""What a worker starts when: runs and batches of events; knows nothing of Celery, the broker or the clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

KEYS_A_LANE: Final = 4  # from which on a batch counts as large: it leaves hardly a lane to others
ALONE_SECONDS: Final = 0.5  # that a large batch has to itself; one that takes longer is in trouble, and others go on
SHORT_SECONDS: Final = 0.05  # the same of any other


@dataclass(eq=False)
class InFlight:
    """A batch that has its slot."""

    keys: int
    started: float  # monotonic seconds
    is_bulk: bool = False  # from messages of many events each


def pause(in_flight: Iterable[InFlight], slots: int, lanes: int, now: float) -> float | None:
    """Seconds until the next batch may start, 0 for at once; None: not before one of these ends.

    Beside a large one it would wait for its lanes in the database instead of growing here, and beside a small one for
    rows of cities; both would take longer, and cost as much as one of their size each.
    """
    batches = list(in_flight)
    if len(batches) >= slots:
        return None
    return max((0.0, *(batch.started + _alone(batch, lanes) - now for batch in batches)))


def _alone(batch: InFlight, lanes: int) -> float:
    return ALONE_SECONDS if batch.keys > KEYS_A_LANE * lanes else SHORT_SECONDS


def is_bulk_next(in_flight: Iterable[InFlight], was_bulk: bool) -> bool:
    """Where both wait, whether a bulk batch starts next, or one of lone events; `was_bulk`: what started last.

    Lone events go first, so that they wait for no more than the bulk that has its slot. So that bulk goes on too, it
    has every second turn while none of it is in flight.
    """
    return not was_bulk and not any(batch.is_bulk for batch in in_flight)


def runs_at_once(children: int, slots: int) -> int:
    """How many runs of tasks a worker takes at once: it leaves a child to each batch that may be in flight.

    A rebuild waits until events have been applied; if all children did, none would be left to apply them. A worker with
    one child has no choice.
    """
    return max(1, children - slots)
