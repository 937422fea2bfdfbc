"""Values that the caches are asked with: which keys to look at again, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

T = TypeVar("T")
FIELDS: Final = {"product": "products", "company": "companies", "city": "cities"}


@dataclass(frozen=True)
class Keys:
    """Ids of the catalog whose cached rows are to be looked at again; ascending, distinct."""

    products: Sequence[int] = ()
    companies: Sequence[int] = ()
    cities: Sequence[int] = ()

    def joined(self, other: Keys) -> Keys:
        """The keys of both."""
        if not len(other):
            return self
        pairs = ((self.products, other.products), (self.companies, other.companies), (self.cities, other.cities))
        return Keys(*(sorted({*mine, *others}) for mine, others in pairs))

    def __len__(self) -> int:
        return len(self.products) + len(self.companies) + len(self.cities)

    @classmethod
    def of(cls, noun: str, ids: Sequence[int]) -> Keys:
        """Keys of one noun: product, company or city."""
        return cls(**{FIELDS[noun]: ids})

    def named(self) -> Iterator[tuple[str, int]]:
        """Noun and id of each."""
        for noun, field_name in FIELDS.items():
            yield from ((noun, key) for key in getattr(self, field_name))

    def subjects(self) -> list[str]:
        """What events call them."""
        return [f"{noun}/{key}" for noun, key in self.named()]

    def only(self) -> tuple[str, int]:
        """Noun and id of the only one."""
        (one,) = self.named()
        return one

    def split(self, number: int) -> list[Keys]:
        """The same keys in at most so many parts of about the same size; none of them is empty."""
        size = -(-len(self) // number)
        return [_keys(part) for part in chunks(list(self.named()), size)]


@dataclass(frozen=True)
class Cause:
    """Who asks for a patch, kept beside what it changes so that a cached row can be explained."""

    task: str  # name of the task, or of the command
    task_id: UUID | str | None = None  # its run in the ledger
    events: Mapping[str, str] = field(default_factory=dict)  # subject ('product/1') → id of its last event
    traceparents: Sequence[str] = ()  # of the traced ones among them


def _keys(named: Sequence[tuple[str, int]]) -> Keys:
    return Keys(**{field_name: [key for of, key in named if of == noun] for noun, field_name in FIELDS.items()})


def chunks(ids: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The ids in runs of at most `size`."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def lane_halves(items: Iterable[T], key: Callable[[T], int], lanes: int) -> tuple[list[T], list[T]]:
    """The items by the half of the lanes that their key is in; patches of the two go side by side, as neither waits."""
    halves: tuple[list[T], list[T]] = ([], [])
    for item in items:
        halves[key(item) % lanes < lanes // 2].append(item)
    return halves
