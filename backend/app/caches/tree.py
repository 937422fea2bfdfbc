"""Cities under their regions, districts and countries, each with the sum of what is below it.

Which places there are, and what hangs on what, seldom changes: what was made of it serves as long as the database says
the same, word for word. A tree whose counts have moved is their numbers between texts that are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from backend.app.caches.reads import Read
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("tree.sql"))
LEVEL: Final = """
UNION ALL
SELECT {number}, coalesce(array_to_json(array_agg(id)), '[]')::text,
       coalesce(array_to_json(array_agg(label)), '[]')::text,
       coalesce(array_to_json(array_agg(parents)), '[]')::text, NULL
  FROM (SELECT * FROM level_{number}_rows() ORDER BY id) AS place"""
CITY: Final = "city"
decode: Final = msgspec.json.decode
encode: Final = json.JSONEncoder(ensure_ascii=False).encode
BARE: Final = ',"children":[]}'
Counted = Literal["products", "services", "companies"]
Texts = tuple[str, str, str]  # of the places of a level: ids, names, parents


class PlaceColumns(NamedTuple):
    """Cities, or the rows of a level, as columns."""

    ids: Sequence[int]
    labels: Sequence[str | None]
    parents: Sequence[Sequence[int | None]]  # by level, from the nearest to the widest; none of them without levels

    def heads(self, name: str) -> Iterator[str]:
        """Each place as JSON, behind a comma, up to its count."""
        end = f',"level":{encode(name)},"count":'
        for row_id, label in zip(self.ids, self.labels, strict=True):
            yield f',{{"id":{row_id},"name":{encode(label)}{end}'


def read(levels: int, counted: Counted) -> Read:
    """Cities with one of their counts, and the rows of so many levels above them: JSON arrays, a row for each level."""
    wider = (LEVEL.format(number=number) for number in range(1, levels + 1))
    return Read(SQL["cities_below_levels" if levels else "cities"] + "".join(wider), {"counted": counted})


def tree(rows: Iterable[tuple[Any, ...]], levels: Sequence[str], everything: bool) -> bytes:
    """The widest places with what is below them, by name, as JSON; branches of zero only with `everything`."""
    found = sorted(rows)
    counts: str = found[0][4]
    numbers = counts[1:-1].split(",") if counts != "[]" else []
    return _shape(tuple((row[1], row[2], row[3]) for row in found), (CITY, *levels)).filled(numbers, everything)


class _Shape:
    """The tree without its numbers. Places are known by their positions: cities first, then level by level."""

    def __init__(self, texts: Sequence[Texts], names: Sequence[str]) -> None:
        """`names`: of the levels."""
        levels = [PlaceColumns(*map(decode, level)) for level in texts]
        heads = [list(level.heads(name)) for level, name in zip(levels, names, strict=True)]
        self._cities, self._wider = heads[0], list(chain(*heads[1:]))
        self._below: list[list[int]] = [[] for _ in self._wider]
        self._roots: list[int] = []
        ids = [row_id for level in levels for row_id in level.ids]
        labels = [label or "" for level in levels for label in level.labels]
        above = _above(levels)
        for _, _, at in sorted(zip(labels, ids, range(len(ids)), strict=True)):
            wider = above[at]
            (self._roots if wider is None else self._below[wider - len(heads[0])]).append(at)

    def filled(self, counts: Sequence[str], everything: bool) -> bytes:
        """It with the counts of the cities, in their order, as JSON."""
        told = [
            head + count + BARE if everything or count != "0" else ""
            for head, count in zip(self._cities, counts, strict=True)
        ]
        sums = [int(count) for count in counts] if self._wider else []
        for head, below in zip(self._wider, self._below, strict=True):
            children, total = "".join([told[at] for at in below]), sum([sums[at] for at in below])
            told.append(f'{head}{total},"children":[{children[1:]}]}}' if everything or children else "")
            sums.append(total)
        return f"[{''.join([told[at] for at in self._roots])[1:]}]".encode()


_shape: Final = lru_cache(maxsize=1)(_Shape)


def _above(levels: Sequence[PlaceColumns]) -> list[int | None]:
    """For each place where the next wider one is; a level that the row does not name, or that is not there, is left
    out."""
    if len(levels) == 1:
        return [None] * len(levels[0].ids)
    positions = iter(range(sum(len(level.ids) for level in levels)))
    at: list[dict[int | None, int]] = [dict(zip(level.ids, positions, strict=False)) for level in levels]
    return [
        next((place for place in map(dict.get, at[number:], parents[number - 1 :]) if place is not None), None)
        for number, level in enumerate(levels, 1)
        for parents in level.parents
    ]
