"""Values that the caches are asked with: which keys to look at again, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

T = TypeVar("T")


@dataclass(frozen=True)
class Keys:
    """Ids of the catalog whose cached rows are to be looked at again; ascending, distinct."""

    products: Sequence[int] = ()
    companies: Sequence[int] = ()
    cities: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.products) + len(self.companies) + len(self.cities)


@dataclass(frozen=True)
class Cause:
    """Who asks for a patch, kept beside what it changes so that a cached row can be explained."""

    task: str  # name of the task, or of the command
    task_id: UUID | str | None = None  # its run in the ledger
    events: Mapping[str, str] = field(default_factory=dict)  # subject ('product/1') → id of its last event
    traceparents: Sequence[str] = ()  # of the traced ones among them


def chunks(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The ids in runs of at most `size`."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def lane_halves(items: Iterable[T], key: Callable[[T], int], lanes: int) -> tuple[list[T], list[T]]:
    """The items by the half of the lanes that their key is in; patches of the two go side by side, as neither waits."""
    halves: tuple[list[T], list[T]] = ([], [])
    for item in items:
        halves[key(item) % lanes < lanes // 2].append(item)
    return halves
