"""The one writer. Nothing else in the system writes a cache table.

`patch` makes the cached rows of some keys equal to the truth, `recount` and the repairs mend what patches can only
move, `clear` empties everything. Each runs in the transaction that it is given, which must be READ COMMITTED:
every statement then sees what was committed before its lock was taken. Under REPEATABLE READ the snapshot would be
older than the lock and a write could be missed for ever, so such a transaction is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.caches.keys import Cause, Keys
from backend.app.database.statement import run_named, run_named_often
from backend.app.errors import LanesHeld
from backend.app.settings import settings
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("patch.sql"))
_all: Final = partial(run_named, SQL)
_often: Final = partial(run_named_often, SQL)
FEW: Final = 100  # keys, up to which planning takes longer than patching
LOCK_CLASS: Final = 0x70617463  # 'patc': first half of the keys of the lanes' advisory locks
LANE_ORDER: Final = ("products", "companies", "cities")  # what keys are of: each has lanes of its own
RECOUNT_LANE: Final = -1
CacheType = Literal["products", "companies"]
CACHE_TYPES: Final[tuple[CacheType, ...]] = ("companies", "products")


@dataclass(frozen=True)
class Moved:
    """By how much one city's counts move."""

    products: int = 0
    services: int = 0
    companies: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(self.products + other.products, self.services + other.services, self.companies + other.companies)


@dataclass(frozen=True)
class Patched:
    """What a patch changed; all empty when the caches were right."""

    products: Sequence[int] = ()  # ids whose mapping changed
    companies: Sequence[int] = ()
    cities: Sequence[int] = ()  # ids whose counts changed

    @property
    def rows(self) -> int:
        """Mapping rows changed."""
        return len(self.products) + len(self.companies)


@dataclass(frozen=True)
class Changed:
    """Mapping rows that a patch changed."""

    ids: Sequence[int] = ()
    previous: Mapping[int, int] = field(default_factory=dict)  # id → the patch that wrote its row before, if it had one


@dataclass(frozen=True)
class Recounted:
    """What a recount found and added, by city."""

    checked: int
    missing: Sequence[int]
    extra: Sequence[int]
    different: Sequence[int]
    idle: Sequence[int] = ()  # of those missing and extra: without numbers, so only their row has to come or to go


def patch(connection: Connection, keys: Keys, cause: Cause) -> Patched:
    """Make the caches right for these keys, and write nothing that is right already."""
    patch_id = lock(connection, keys)
    moves: dict[int, Moved] = defaultdict(Moved)
    companies = _patch_companies(connection, keys.companies, patch_id, moves)
    products = _patch_products(connection, keys.products, patch_id, moves)
    for city in _counted_cities(connection, keys.cities):
        moves[city] += Moved()
    if companies.ids or products.ids:
        _record(connection, patch_id, {"company": companies, "product": products}, cause)
    cities = _move(connection, moves, patch_id)
    if keys.cities:
        _all(connection, "tell_cities", cities=list(keys.cities))
    return Patched(products.ids, companies.ids, cities)


def lock(connection: Connection, keys: Keys) -> int:
    """Take the lanes of these keys in ascending order, until the transaction ends; a number for the patch."""
    lanes = settings().patch_lanes
    nouns = (getattr(keys, noun) for noun in LANE_ORDER)
    return _lock_lanes(connection, {noun * lanes + key % lanes for noun, ids in enumerate(nouns) for key in ids})


def pass_lanes(connection: Connection, what: str) -> None:
    """Wait until all patches of such keys ('products', 'companies', 'counts') have ended that have begun by now.
    Raises LanesHeld."""
    lanes = settings().patch_lanes
    first = lanes * LANE_ORDER.index("cities" if what == "counts" else what)
    with _in_time():
        _all(connection, "pass_lanes", lock_class=LOCK_CLASS, first=first, last=first + lanes - 1)


def land(connection: Connection, canaries: Iterable[int]) -> None:
    """Copy these canaries, in the transaction of the patch that their events came with."""
    _all(connection, "land_canaries", ids=sorted(canaries))


def recount(connection: Connection, cities: Sequence[int] | None = None) -> Recounted:
    """Count the mappings of every city, or of these, and add what its counts lack.

    Cities that differ are looked at again in their lanes: until then they may come or go with their rows.
    """
    _lock_lanes(connection, {RECOUNT_LANE})
    suspects = _all(connection, "miscounts", cities=None if cities is None else list(cities))
    if not suspects:
        return Recounted(_count(connection) if cities is None else len(cities), (), (), ())
    miscounted = [row[0] for row in suspects]
    lock(connection, Keys(cities=miscounted))
    wrong = _all(connection, "miscounts", cities=miscounted)
    _move(connection, {row[0]: Moved(row[1], row[2], row[3]) for row in wrong})
    extra, missing = [row[0] for row in wrong if row[4]], [row[0] for row in wrong if row[5]]
    different = [row[0] for row in wrong if not row[4] and not row[5]]
    idle = [row[0] for row in wrong if not any(row[1:4])]
    return Recounted(suspects[0][6], missing, extra, different, idle)


def repair_active(connection: Connection, cache_type: CacheType) -> bool:
    """Make one active-cities row equal to the counts; whether it was wrong."""
    made = _all(connection, "lock_active", cache_type=cache_type)
    return bool(_all(connection, "repair_active", cache_type=cache_type) or made)


def repair_totals(connection: Connection) -> None:
    """Make the totals in both active-cities rows equal to the counts."""
    _all(connection, "lock_totals")
    _all(connection, "repair_totals")


def clear(connection: Connection) -> tuple[int, int, int]:
    """Empty the caches; rows removed from product mapping, company mapping and counts."""
    _lock_lanes(connection, {RECOUNT_LANE})
    _all(connection, "lock_tables")
    removed = _all(connection, "clear")[0]
    _all(connection, "clear_active")
    return removed[0], removed[1], removed[2]


def _patch_companies(connection: Connection, ids: Sequence[int], patch_id: int, moves: dict[int, Moved]) -> Changed:
    if not ids:
        return Changed()
    ask = _often if len(ids) <= FEW else _all
    row = ask(connection, "patch_companies", companies=list(ids), patch_id=patch_id)[0]
    for city, moved in zip(*row[3:], strict=True):
        moves[city] += Moved(companies=moved)
    return Changed(row[0], dict(zip(*row[1:3], strict=True)))


def _patch_products(connection: Connection, ids: Sequence[int], patch_id: int, moves: dict[int, Moved]) -> Changed:
    if not ids:
        return Changed()
    ask = _often if len(ids) <= FEW else _all
    row = ask(connection, "patch_products", products=list(ids), patch_id=patch_id)[0]
    for city, products, services in zip(*row[3:], strict=True):
        moves[city] += Moved(products, services)
    return Changed(row[0], dict(zip(*row[1:3], strict=True)))


def _counted_cities(connection: Connection, cities: Sequence[int]) -> list[int]:
    return [row[0] for row in _all(connection, "counted_cities", cities=list(cities))] if cities else []


def _record(connection: Connection, patch_id: int, changed: Mapping[str, Changed], cause: Cause) -> None:
    """Keep the event of each changed subject and the patch that it had before; a lone event asked for all of them."""
    previous = {f"{noun}/{key}": before for noun, rows in changed.items() for key, before in rows.previous.items()}
    new = (f"{noun}/{key}" for noun, rows in changed.items() for key in rows.ids if key not in rows.previous)
    asked = new if len(cause.events) > 1 else cause.events
    subjects = [*previous, *(subject for subject in asked if subject in cause.events and subject not in previous)]
    _often(
        connection,
        "record",
        patch_id=patch_id,
        task=cause.task,
        task_id=str(cause.task_id) if cause.task_id else None,
        subjects=subjects,
        event_ids=[cause.events.get(subject) for subject in subjects],
        previous_ids=[previous.get(subject) for subject in subjects],
        traceparents=list(cause.traceparents) or None,
    )


def _move(connection: Connection, moves: dict[int, Moved], patch_id: int | None = None) -> list[int]:
    """Move counts by differences, then the active-city rows by what crossed zero; cities whose counts changed.

    Without a patch no mapping has moved, so the totals stay.
    """
    if not moves:
        return []
    cities = sorted(moves)
    after = _often(
        connection,
        "move_counts",
        cities=cities,
        products=[moves[city].products for city in cities],
        services=[moves[city].services for city in cities],
        companies=[moves[city].companies for city in cities],
        patch_ids=[patch_id] if patch_id else [],
    )
    changed = {row[0] for row in after}
    if empty := [*(moves.keys() - changed), *(row[0] for row in after if not any(row[1:]))]:
        changed.update(row[0] for row in _all(connection, "drop_counts", cities=empty))
    crossed = {
        "products": _crossed(
            (row[0], row[1] + row[2], moves[row[0]].products + moves[row[0]].services) for row in after
        ),
        "companies": _crossed((row[0], row[3], moves[row[0]].companies) for row in after),
    }
    total = sum(moves.values(), Moved()) if patch_id else Moved()
    _move_active(connection, crossed, total)
    return sorted(changed)


def _crossed(counts: Iterable[tuple[int, int, int]]) -> tuple[list[int], list[int]]:
    """Cities that entered and cities that left, from (city, count after, difference)."""
    entered, left = [], []
    for city, after, moved in counts:
        if after - moved <= 0 < after:
            entered.append(city)
        elif after <= 0 < after - moved:
            left.append(city)
    return entered, left


def _move_active(connection: Connection, crossed: dict[str, tuple[list[int], list[int]]], total: Moved) -> None:
    totals = {"companies": total.companies, "products": total.products + total.services}
    if any(ids for both in crossed.values() for ids in both):
        sides = {
            f"{noun}_{side}": ids
            for noun, both in crossed.items()
            for side, ids in zip(("entered", "left"), both, strict=True)
        }
        _all(connection, "move_active", **sides, **totals)
    elif any(totals.values()):
        _all(connection, "move_totals", **totals)


def _count(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM city_counts").scalar_one())


def _lock_lanes(connection: Connection, lanes: Iterable[int]) -> int:
    with _in_time():
        isolation, patch_id, _ = _often(connection, "lock_lanes", lock_class=LOCK_CLASS, lanes=sorted(lanes))[0]
    if isolation != "read committed":
        raise RuntimeError("caches are patched at READ COMMITTED only: elsewhere the snapshot is older than the lock")
    return int(patch_id)


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except DBAPIError as failure:
        if db.is_too_long(failure):
            raise LanesHeld from failure
        raise
