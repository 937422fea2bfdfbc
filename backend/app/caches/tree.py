"""Cities under their regions, districts and countries, each with the sum of what is below it.

Which places there are, and what hangs on what, seldom changes. Each statement asks first whether a change of it was
noted since the last one, and if none was, for the counts alone: a tree whose counts have moved is their numbers between
texts that are there. Where changes are not noted, what was made of the places serves as long as the database says the
same, word for word.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

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
COUNTS, LAST = -1, 32_767  # where a level has its number
KEPT_SECONDS: Final = 1.0  # that places are not read anew, by statements; what is made of them is kept as long again
Counted = Literal["products", "services", "companies"]
Texts = tuple[str, str, str]  # of the places of a level: ids, names, parents
Run = Callable[[str, Mapping[str, Any]], list[tuple[Any, ...]]]  # a statement with named parameters


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


@dataclass(frozen=True)
class _SeenShape:
    """What was made of places, and the snapshot of the last statement that saw them like that."""

    shape: _Shape
    levels: Sequence[str]
    since: float  # monotonic seconds, when all of it was asked for
    server: str  # and since when it runs
    snapshot: str


class Trees:
    """Of one application."""

    def __init__(self) -> None:
        self._seen: _SeenShape | None = None

    def ask(
        self, run: Run, levels: Sequence[str], counted: Counted, everything: bool, of_replica: bool
    ) -> tuple[bytes, float]:
        """The widest places with what is below them, by name, as JSON; branches of zero only with `everything`.

        And since when, in monotonic seconds, it may lack changes of places that nobody has noted.
        `levels`: names of those above the cities. A replica has no notes.
        """
        now = time.monotonic()
        if of_replica:
            return tree(run(_places(len(levels)), {"counted": counted}), levels, everything), now
        seen = self._seen
        if seen and (seen.levels != levels or now - seen.since > KEPT_SECONDS):
            seen = None
        asked = {"server": seen and seen.server, "snapshot": seen and seen.snapshot, "counted": counted}
        *rows, (*_, server, snapshot) = sorted(run(_statement(len(levels)), asked))
        if seen and rows[0][0] == COUNTS:
            numbers = dict(zip(decode(rows[0][1]), decode(rows[0][4]), strict=True))
            shape, since = seen.shape, seen.since
            told = shape.filled([numbers.get(city, 0) for city in shape.cities], everything)
        else:
            shape, since = _shape_of(rows, levels), now
            told = shape.filled(decode(rows[0][4]), everything)
        self._seen = _SeenShape(shape, levels, since, server, snapshot)
        return told, since


def tree(rows: Iterable[tuple[Any, ...]], levels: Sequence[str], everything: bool) -> bytes:
    """The same of a row a level, with the counts in that of the cities."""
    found = sorted(rows)
    return _shape_of(found, levels).filled(decode(found[0][4]), everything)


@cache
def _places(levels: int) -> str:
    """Cities with one of their counts, and the rows of so many levels above them: JSON arrays, a row for each level."""
    wider = (LEVEL.format(number=number) for number in range(1, levels + 1))
    return SQL["cities_below_levels" if levels else "cities"] + "".join(wider)


@cache
def _statement(levels: int) -> str:
    """The same, or the counts alone where the places are as they were; and last of all what that is said of."""
    parts = (f"SELECT * FROM ({part}) AS told" for part in (_places(levels), SQL["counts"]))
    return f"""{SQL["kept"]}
{next(parts)} WHERE NOT (SELECT holds FROM kept)
UNION ALL
{next(parts)} WHERE (SELECT holds FROM kept)
UNION ALL
SELECT {LAST}, NULL, NULL, pg_postmaster_start_time()::text, pg_current_snapshot()::text"""


def _shape_of(rows: Sequence[tuple[Any, ...]], levels: Sequence[str]) -> _Shape:
    return _shape(tuple((row[1], row[2], row[3]) for row in rows), (CITY, *levels))


class _Shape:
    """The tree without its numbers. Places are known by their positions: cities first, then level by level."""

    def __init__(self, texts: Sequence[Texts], names: Sequence[str]) -> None:
        """`names`: of the levels."""
        levels = [PlaceColumns(*map(decode, level)) for level in texts]
        heads = [list(level.heads(name)) for level, name in zip(levels, names, strict=True)]
        self.cities = levels[0].ids
        self._heads, self._wider = heads[0], list(chain(*heads[1:]))
        self._below: list[list[int]] = [[] for _ in self._wider]
        self._roots: list[int] = []
        ids = [row_id for level in levels for row_id in level.ids]
        labels = [label or "" for level in levels for label in level.labels]
        above = _above(levels)
        for _, _, at in sorted(zip(labels, ids, range(len(ids)), strict=True)):
            wider = above[at]
            (self._roots if wider is None else self._below[wider - len(heads[0])]).append(at)

    def filled(self, counts: Sequence[int], everything: bool) -> bytes:
        """It with the counts of the cities, in their order, as JSON."""
        told = [
            f"{head}{count}{BARE}" if everything or count else ""
            for head, count in zip(self._heads, counts, strict=True)
        ]
        sums = list(counts) if self._wider else []
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
