"""Cities under their regions, districts and countries, each with the sum of what is below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from backend.app.caches.reads import Read
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("tree.sql"))
CITY: Final = "city"
Counted = Literal["products", "services", "companies"]
Key = tuple[int, int]  # number of the level, 0 for cities, and id


@dataclass
class CountedPlace:
    """One place."""

    id: int
    name: str | None
    level: str
    count: int = 0
    children: list[CountedPlace] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """A row of a level, or a city."""

    key: Key
    name: str | None
    parents: Sequence[int | None]  # by level, from the nearest to the widest; None: the row names none


def read(levels: int) -> Read:
    """Cities, and the rows of so many levels above them."""
    wider = (
        f"UNION ALL SELECT {number}, id, label, parents, NULL, NULL, NULL FROM level_{number}_rows()"
        for number in range(1, levels + 1)
    )
    return Read("\n".join((SQL["cities_below_levels" if levels else "cities"], *wider)), {})


def tree(
    rows: Iterable[Mapping[str, Any]], levels: Sequence[str], counted: Counted, everything: bool
) -> list[CountedPlace]:
    """The widest places with what is below them, by name; branches of zero only with `everything`."""
    cities, above = [], {}
    for row in rows:
        place = Place((row["level"], row["id"]), row["label"], row["parents"])
        if row["level"]:
            above[place.key] = place
        elif (count := row[f"{counted}_count"] or 0) or everything:
            cities.append((place, count))
    if not levels:
        return sorted((CountedPlace(place.key[1], place.name, CITY, count) for place, count in cities), key=_by_name)
    growing = _Growing((CITY, *levels), above)
    for place, count in cities:
        growing.add(place, count)
    if everything:
        for place in above.values():
            growing.add(place, 0)
    return growing.roots()


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
        return self._nodes.setdefault(place.key, CountedPlace(place.key[1], place.name, self._names[place.key[0]]))

    def roots(self) -> list[CountedPlace]:
        """The widest places, each level by name."""
        for node in self._nodes.values():
            node.children.sort(key=_by_name)
        return sorted(self._roots, key=_by_name)

    def _way(self, place: Place) -> Iterator[Place]:
        """From the place upwards. What is wider is asked of the row below it; a level that it does not name, or
        that is not there, is left out."""
        yield place
        for number in range(place.key[0] + 1, len(self._names)):
            key = place.parents[number - 1]
            if key is not None and (wider := self._above.get((number, key))):
                place = wider
                yield place


def _by_name(node: CountedPlace) -> tuple[Any, ...]:
    return (node.name or "", node.id)
