"""Cities under their regions, districts and countries, each with the sum of what is below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from backend.app.caches.reads import Read
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("tree.sql"))
CITY: Final = "city"
Counted = Literal["products", "services", "companies"]
Key = tuple[int, int]  # number of the level, 0 for cities, and id


@dataclass(slots=True)
class CountedPlace:
    """One place."""

    id: int
    name: str | None
    level: str
    count: int = 0
    children: list[CountedPlace] = field(default_factory=list)


class Place(NamedTuple):
    """A row of a level, or a city."""

    level: int  # 0: a city
    id: int
    name: str | None
    parents: Sequence[int | None]  # by level, from the nearest to the widest; None: the row names none
    counted: int | None

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.level, self.id


def read(levels: int, counted: Counted) -> Read:
    """Cities with one of their counts, and the rows of so many levels above them."""
    wider = (
        f"UNION ALL SELECT {number}, id, label, parents, NULL FROM level_{number}_rows()"
        for number in range(1, levels + 1)
    )
    statement = "\n".join((SQL["cities_below_levels" if levels else "cities"], *wider))
    return Read(statement, {"counted": counted})


def tree(rows: Iterable[Sequence[Any]], levels: Sequence[str], everything: bool) -> list[CountedPlace]:
    """The widest places with what is below them, by name; branches of zero only with `everything`."""
    if not levels:
        return _flat(rows, everything)
    places = [Place(*row) for row in rows]
    above = {place.key: place for place in places if place.level}
    growing = _Growing((CITY, *levels), above)
    for place in places:
        if not place.level and (place.counted or everything):
            growing.add(place, place.counted or 0)
    if everything:
        for place in above.values():
            growing.add(place, 0)
    return growing.roots()


def _flat(rows: Iterable[Sequence[Any]], everything: bool) -> list[CountedPlace]:
    found = [CountedPlace(row[1], row[2], CITY, row[4] or 0, []) for row in rows if row[4] or everything]
    return sorted(found, key=_by_name)


class _Growing:
    def __init__(self, names: Sequence[str], above: Mapping[Key, Place]) -> None:
        self._names, self._above = names, above
        self._nodes: dict[Key, CountedPlace] = {}
        self._roots: list[CountedPlace] = []

    def add(self, place: Place, count: int) -> None:
        """Put a place under those that it belongs to, and its count into all of them."""
        below: CountedPlace | None = None
        for step in self._way(place):
            is_known, node = step.key in self._nodes, self._node(step)
            node.count += count
            if below is not None:
                node.children.append(below)
            below = None if is_known else node  # a known one hangs where it belongs already
        if below is not None:
            self._roots.append(below)

    def _node(self, place: Place) -> CountedPlace:
        return self._nodes.setdefault(place.key, CountedPlace(place.id, place.name, self._names[place.level]))

    def roots(self) -> list[CountedPlace]:
        """The widest places, each level by name."""
        for node in self._nodes.values():
            node.children.sort(key=_by_name)
        return sorted(self._roots, key=_by_name)

    def _way(self, place: Place) -> Iterator[Place]:
        """From the place upwards. What is wider is asked of the row below it; a level that it does not name, or
        that is not there, is left out."""
        yield place
        for number in range(place.level + 1, len(self._names)):
            key = place.parents[number - 1]
            if key is not None and (wider := self._above.get((number, key))):
                place = wider
                yield place


def _by_name(node: CountedPlace) -> tuple[Any, ...]:
    return (node.name or "", node.id)
