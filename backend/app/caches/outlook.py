"""What patching some keys would change, without patching them: for dry runs and previews, by the one diff."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff
from backend.app.caches.patch import CacheType

WINDOW_ROWS: Final = 200_000  # rows compared at a time where everything is
SIDES: Final = ("appear", "disappear", "move")
Part = tuple[CacheType, Sequence[int]]  # distinct keys
Parts = Callable[[Connection], Iterable[Part]]  # read in a snapshot
KINDS: Final = ("product", "service", "company")


@dataclass
class Outlook:
    """What has been seen so far."""

    first: int  # rows that are named, of each mapping
    sides: dict[str, Counter[str]] = field(default_factory=lambda: {table: _none() for table in diff.TABLES.values()})
    rows: list[diff.RowDifference] = field(default_factory=list)
    moves: Counter[tuple[int, str]] = field(default_factory=Counter)  # of counts, by city and kind

    def look(self, connection: Connection, what: CacheType, ids: Sequence[int]) -> None:
        """Look at some more keys. Companies do not take their products along here."""
        found = diff.among(connection, what, ids)
        self.sides[found.table].update(
            {"appear": len(found.missing), "disappear": len(found.extra), "move": len(found.different)}
        )
        named = sum(row.table == found.table for row in self.rows)
        self.rows += diff.rows(connection, what, found.keys[: self.first - named])
        self.moves.update(diff.moves(connection, what, found.keys))


@dataclass(frozen=True)
class CountMove:
    """A city whose row of counts would change; None where there is no row."""

    city_id: int
    before: dict[str, int] | None
    after: dict[str, int] | None

    def by(self, *columns: str) -> int:
        """By how much these move, together."""
        return sum(_value(self.after, column) - _value(self.before, column) for column in columns)


COLUMNS: Final = ("products_count", "services_count", "companies_count")


def dry_run(parts: Parts, everything: bool = False, first: int = 100) -> dict[str, Any]:
    """What patching these keys would change: numbers by table, and the first rows before and after."""
    found = Outlook(first)
    with db.snapshot() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = '10min'")
        for what, ids in windows(connection) if everything else parts(connection):
            found.look(connection, what, ids)
    tables = {diff.TABLES[what]: found.sides[diff.TABLES[what]].total() for what in ("products", "companies")}
    moved = {city for (city, _), by in found.moves.items() if by}
    return {"would_change": tables | {"city_counts": len(moved)}, "rows": [vars(row) for row in found.rows[:first]]}


def windows(connection: Connection) -> Iterator[Part]:
    """All that differs."""
    after: int | None = None
    until: int | None = None
    while until != diff.BIGINT_MAX:
        until = diff.window_end(connection, after, WINDOW_ROWS)
        yield "products", diff.compare(connection, "products", after, until).keys
        after = until
    yield "companies", diff.compare(connection, "companies").keys


def count_moves(
    connection: Connection, moves: Mapping[tuple[int, str], int], cities: Sequence[int] | None
) -> list[CountMove]:
    """How rows of counts would change, the largest moves first; `cities`: whose rows may come or go, None for all."""
    moved = {city for (city, _), by in moves.items() if by}
    asked = None if cities is None else sorted(moved.union(cities))
    found = []
    for city, is_there, before in diff.counted(connection, asked):
        after = [number + moves.get((city, kind), 0) for number, kind in zip(before or (0, 0, 0), KINDS, strict=True)]
        found.append(CountMove(city, _named(before), _named(after if is_there or any(after) else None)))
    changed = [move for move in found if move.before != move.after]
    return sorted(changed, key=lambda move: (-sum(abs(move.by(column)) for column in COLUMNS), move.city_id))


def crossing(counts: Sequence[CountMove]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Cities that enter and that leave the lists of active cities, by list."""
    enter: dict[str, list[int]] = {}
    leave: dict[str, list[int]] = {}
    for cache, columns in {"products": COLUMNS[:2], "companies": COLUMNS[2:]}.items():
        here = [(move.city_id, *(sum(_value(row, name) for name in columns) > 0 for row in (move.before, move.after)))
                for move in counts]  # fmt: skip
        enter[cache] = sorted(city for city, before, after in here if after and not before)
        leave[cache] = sorted(city for city, before, after in here if before and not after)
    return enter, leave


def sides_of(counts: Sequence[CountMove]) -> dict[str, int]:
    """How many rows of counts appear, disappear and move."""
    sides = ("appear" if move.before is None else "disappear" if move.after is None else "move" for move in counts)
    return _none() | Counter(sides)


def _none() -> Counter[str]:
    return Counter(dict.fromkeys(SIDES, 0))


def _named(numbers: Sequence[int] | None) -> dict[str, int] | None:
    return None if numbers is None else dict(zip(COLUMNS, numbers, strict=True))


def _value(row: dict[str, int] | None, column: str) -> int:
    return row[column] if row else 0
