"""Watched tables: from a row that changed to the keys that may move, asked for when the patch runs.

Never in the trigger: another transaction that is not committed yet may give a company this very row, and its own event
may be patched before this one commits. After the commit everybody's rows are seen. The old image counts as well as the
new one. A set that is too large for a batch is worked off in windows, one chunk a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches.keys import Keys
from backend.app.database.statement import run
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("watched.sql"))
NO_KEYS: Final = Keys()
MOST_IDS: Final = 100_000  # of all changes of a batch together
WINDOW_IDS: Final = 20_000  # that one evaluation of a set yields


@dataclass(frozen=True)
class MaybeMoved:
    """What the changes of a batch may have moved."""

    keys: Keys = NO_KEYS
    wide: Sequence[tuple[int, int]] = ()  # (change, watch): sets that are too large for a batch
    is_unknown: bool = False  # a change that nobody can ask any more: everything is to be looked at


def moved(connection: Connection, changes: Sequence[int], most: int) -> MaybeMoved:
    """The keys that these changes may have moved; at most `most` of one change."""
    if not changes:
        return MaybeMoved()
    each = max(1, min(most, MOST_IDS // len(changes)))
    ids: dict[str, set[int]] = {"product": set(), "company": set(), "city": set()}
    wide: list[tuple[int, int]] = []
    is_unknown = False
    watches = run(connection, SQL["watches_of"], changes=list(changes))
    for number, noun in sorted({(row.number, row.noun) for row in watches if row.number is not None}):
        asked = [row.id for row in watches if row.number == number]
        for change, found in _ids(connection, number, asked, each):
            ids[noun].update(found[:each])
            wide += [(change, number)] if len(found) > each else []
    companies, crowded = companies_of(connection, sorted(ids["city"]), each)
    ids["company"] |= companies
    is_unknown = any(row.number is None for row in watches)
    keys = Keys(*(sorted(ids[noun]) for noun in ("product", "company", "city")))
    return MaybeMoved(keys, wide + _of_cities(connection, crowded, watches), is_unknown)


def _of_cities(connection: Connection, crowded: set[int], watches: Sequence[Any]) -> list[tuple[int, int]]:
    """A city with too many companies is left to the wide patch of the changes that named cities."""
    return [(row.id, row.number) for row in watches if crowded and row.noun == "city"]


def request(connection: Connection, wide: Sequence[tuple[int, int]], events: Any) -> None:
    """Ask for wide patches of these sets, in the caller's transaction."""
    pairs = sorted(set(wide))
    if pairs:
        run(
            connection,
            SQL["request_wide_watch"],
            changes=[change for change, _ in pairs],
            numbers=[number for _, number in pairs],
            event_ids=[events.get(f"watched/{change}") for change, _ in pairs],
        )


@dataclass(frozen=True)
class WatchedSet:
    """A wide patch of a watched set."""

    change: int
    number: int
    generation: int
    after: int | None
    event_id: str | None
    noun: str | None  # None: the definition has no such watch any more; adopting it has compared everything

    @property
    def name(self) -> dict[str, int]:
        """As statements name it."""
        return {"change": self.change, "number": self.number, "generation": self.generation}


def next_request() -> WatchedSet | None:
    """The oldest one. Raises DatabaseAway."""
    with db.transaction() as connection:
        found = run(connection, SQL["next_wide_watch"])
    return WatchedSet(*found[0]) if found else None


def advance(request_: WatchedSet, after: int) -> None:
    """What has been patched so far need not be patched again."""
    with db.transaction() as connection:
        run(connection, SQL["advance_wide_watch"], after=after, **request_.name)


def finish(request_: WatchedSet) -> None:
    """It is done, unless it has been asked for again."""
    with db.transaction() as connection:
        run(connection, SQL["finish_wide_watch"], **request_.name)


def chunks_of(request_: WatchedSet, most: int) -> Iterator[tuple[int, Keys]]:
    """The set from where it was left, in chunks: the last id of each, and its keys."""
    after = request_.after
    while window := _window(request_, after):
        for start in range(0, len(window), most):
            part = window[start : start + most]
            yield part[-1], _keys(request_.noun, part)
        after = window[-1]


def companies_in(city: int, most: int) -> Iterator[list[int]]:
    """All companies that a change of a city touches, in runs of at most `most`."""
    after = None
    while True:
        with db.transaction() as connection:
            found = [row[0] for row in run(connection, SQL["next_companies"], city=city, after=after, most=most)]
        if not found:
            return
        yield found
        after = found[-1]


def _keys(noun: str | None, ids: list[int]) -> Keys:
    return Keys(**{{"product": "products", "company": "companies", "city": "cities"}[noun or "city"]: ids})


def _window(request_: WatchedSet, after: int | None) -> list[int]:
    query = f"""
        SELECT moved.id FROM watched_changes AS change CROSS JOIN LATERAL ({_both(request_.number)}) AS moved
         WHERE change.id = %(change)s AND (%(after)s IS NULL OR moved.id > CAST(%(after)s AS bigint))
         GROUP BY moved.id ORDER BY moved.id LIMIT %(most)s"""
    with db.transaction() as connection:
        db.may_take_long(connection)
        return [row[0] for row in run(connection, query, change=request_.change, after=after, most=WINDOW_IDS)]


def _ids(connection: Connection, number: int, changes: list[int], most: int) -> list[tuple[int, list[int]]]:
    query = f"""
        SELECT change.id, ARRAY(SELECT moved.id FROM ({_both(number)}) AS moved LIMIT %(most)s + 1)
          FROM watched_changes AS change WHERE change.id = ANY(%(changes)s::bigint[])"""
    return [(row[0], row[1]) for row in run(connection, query, changes=changes, most=most)]


def _both(number: int) -> str:
    """The ids of both images."""
    return f"SELECT id FROM watch_{number}_ids(change.before) UNION SELECT id FROM watch_{number}_ids(change.after)"


def companies_of(connection: Connection, cities: list[int], most: int) -> tuple[set[int], set[int]]:
    """Companies of these cities, and the cities that have too many of them."""
    if not cities:
        return set(), set()
    found = run(connection, SQL["companies_of"], cities=cities, most=most)
    companies = {company for _, own in found for company in own}
    return companies, {city for city, own in found if len(own) > most}
