"""Rebuilds: the diff names keys, the patch looks at them again under lock. There is no second algorithm.

A cache that is right costs no write. A row that differs only because its event is still on the way is delay, not
drift: before the keys of a difference are patched, the pipeline is given time to pass the moment of the diff.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from backend.app import db
from backend.app.caches import diff, under_way
from backend.app.caches.keys import Cause, Keys, lane_halves
from backend.app.caches.patch import (
    CACHE_TYPES,
    CacheType,
    Patched,
    Recounted,
    clear,
    lock,
    patch,
    recount,
    repair_active,
    repair_totals,
)
from backend.app.caches.under_way import Differing, Settle
from backend.app.settings import settings

FIRST_KEYS = 20  # of those that had drifted, named in the result
FIRST_CHUNK = 1_000  # keys
CHUNK_SECONDS = 0.06  # for which a chunk holds its lanes: events of their keys wait that long
WINDOW_ROWS = 2_000_000  # rows compared in one snapshot; it bounds memory and how long vacuum is held back
Progress = Callable[[dict[str, Any]], None]


@dataclass
class Rebuilt:
    """What a rebuild of one cache found and did; numbers of rows."""

    checked: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    patched: int = 0  # changed by this rebuild
    drift: int = (
        0  # rows that no event would have mended; of counts and active cities only if no mapping row was patched
    )
    delayed: int = 0  # differed only because their event was under way
    counts_corrected: int = 0
    active_repaired: bool = False
    settled: bool = (
        True  # False: the pipeline did not come to the diff's moment in time, so drift is not told from delay
    )
    keys: list[int] = field(default_factory=list)  # the first ones that had drifted
    moved: set[int] = field(default_factory=set)  # cities whose counts the patches moved

    def found(self, difference: diff.Difference) -> None:
        """Add up one window."""
        self.checked += difference.checked
        self.missing += len(difference.missing)
        self.extra += len(difference.extra)
        self.different += len(difference.different)


def rebuild(
    what: CacheType,
    cause: Cause,
    settle: Settle = lambda instant: True,
    progress: Progress = lambda state: None,
    finish: bool = True,
    city: int | None = None,
) -> Rebuilt:
    """Reconcile one mapping, the counts that it moved, and its active-cities row. Safe to kill at any point.

    Without `finish` the counts and the active-cities row are left to the caller's `rebuild_counts`. `city`: only what
    is mapped there or should be.
    """
    done = Rebuilt()
    after: int | None = None
    until: int | None = None
    while until != diff.BIGINT_MAX:
        with under_way.judging(what) as judgement:
            with db.snapshot() as connection:
                db.may_take_long(connection)
                is_large = what == "products"
                until = diff.window_end(connection, after, WINDOW_ROWS, city) if is_large else diff.BIGINT_MAX
                found = diff.compare(connection, what, after, until, city)
                differing = Differing(under_way.instant(connection), found.keys)
            done.found(found)
            progress({"checked": done.checked, "differing": done.missing + done.extra + done.different})
            wrong = under_way.wrong(judgement, differing, settle)
        after = until
        done.settled = done.settled and wrong is not None
        if differing.keys:
            _mend(what, differing.keys, wrong, cause, progress, done)
    if finish:
        _finish(what, settle, done)
    return done


def _finish(what: CacheType, settle: Settle, done: Rebuilt) -> None:
    recounting = _recount(settle)
    done.counts_corrected = len(recounting.wrong)
    with db.transaction() as connection:
        done.active_repaired = repair_active(connection, what)
    with db.transaction() as connection:
        repair_totals(connection)
    if not done.patched:  # else the patches moved counts and active cities, whatever these had been
        done.drift += len(recounting.drifted) + done.active_repaired


def _mend(
    what: CacheType,
    keys: Sequence[int],
    wrong: Sequence[int] | None,
    cause: Cause,
    progress: Progress,
    done: Rebuilt,
) -> None:
    """Look again at the keys of a window, in two halves side by side: they share no lane, so neither waits."""
    halves: Sequence[Sequence[int]] = [keys]
    if len(keys) > 2 * settings().rebuild_chunk_keys:
        halves = lane_halves(keys, int, settings().patch_lanes)
    reports = Lock()

    def tell(part: Sequence[int], patched: Patched) -> None:
        with reports:
            drifted = under_way.those_in(wrong, (*patched.products, *patched.companies))
            done.patched += patched.rows
            done.drift += len(drifted)
            done.delayed += len(part) - len(drifted)
            done.moved.update(patched.cities)
            done.keys += drifted[: FIRST_KEYS - len(done.keys)]
            progress({"checked": done.checked, "differing": len(keys), "patched": done.patched})

    with ThreadPoolExecutor(len(halves)) as pool:
        work = [pool.submit(_patch_chunks, what, part, cause, tell) for part in halves]
        for result in work:
            result.result()


def _patch_chunks(
    what: CacheType,
    keys: Sequence[int],
    cause: Cause,
    tell: Callable[[Sequence[int], Patched], None],
) -> None:
    """Scattered keys take longer than neighbours, so the size of a chunk follows from how long the one before took."""
    most, start = settings().rebuild_chunk_keys, 0
    size = min(FIRST_CHUNK, most)
    while part := keys[start : start + size]:
        start += len(part)
        with db.transaction() as connection:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")  # the end of the run flushes it all
            lock(connection, Keys(**{what: part}))
            began = time.monotonic()
            patched = patch(connection, Keys(**{what: part}), cause)
        tell(part, patched)
        size = max(1, min(most, 2 * size, int(size * CHUNK_SECONDS / (time.monotonic() - began))))


def rebuild_city(
    city: int, cause: Cause, settle: Settle = lambda instant: True, progress: Progress = lambda state: None
) -> tuple[Rebuilt, Rebuilt, Counted]:
    """Reconcile what is mapped in a city or should be: products, companies, then its counts, those of the cities that
    rows came from or went to, and active cities. Safe to kill at any point."""
    products = rebuild("products", cause, settle, progress, finish=False, city=city)
    companies = rebuild("companies", cause, settle, progress, finish=False, city=city)
    cities = sorted({city} | products.moved | companies.moved)
    return products, companies, rebuild_counts(settle, active=True, cities=cities)


@dataclass(frozen=True)
class Counted:
    """What a recount found; numbers of cities. Numbers have no delay beside their mappings, but the row of a city that
    has come or gone waits for the city's event."""

    checked: int
    missing: int
    extra: int
    different: int
    patched: int
    drift: int
    delayed: int
    settled: bool
    keys: Sequence[int] = ()  # the first ones that had drifted
    active_repaired: int = 0  # rows of active cities


def rebuild_counts(
    settle: Settle = lambda instant: True, active: bool = False, cities: Sequence[int] | None = None
) -> Counted:
    """Recount goods, services and companies of every city, or of these, and mend what differs; `active` looks at that
    as well."""
    recounting = _recount(settle, cities)
    found, drifted = recounting.found, recounting.drifted
    repaired = 0
    if recounting.wrong or active:  # wrong counts may have let a city cross zero at the wrong moment
        with db.transaction() as connection:
            repaired = sum(repair_active(connection, cache_type) for cache_type in CACHE_TYPES)
    counted_active = repaired if active else 0
    return Counted(
        found.checked,
        len(found.missing),
        len(found.extra),
        len(found.different),
        patched=len(recounting.wrong) + counted_active,
        drift=len(drifted) + counted_active,
        delayed=len(recounting.coming),
        settled=recounting.settled,
        keys=drifted[:FIRST_KEYS],
        active_repaired=repaired,
    )


@dataclass(frozen=True)
class _Recounting:
    found: Recounted
    coming: set[int]  # cities whose row an event under way would have brought or taken
    settled: bool

    @property
    def wrong(self) -> list[int]:
        return sorted([*self.found.missing, *self.found.extra, *self.found.different])

    @property
    def drifted(self) -> list[int]:
        return [city for city in self.wrong if city not in self.coming]


def _recount(settle: Settle, cities: Sequence[int] | None = None) -> _Recounting:
    with under_way.judging("counts") as judgement:
        with db.snapshot() as connection:
            db.may_take_long(connection)
            uncounted = sorted(row.key for row in diff.uncounted(connection, cities))
            differing = Differing(under_way.instant(connection), uncounted)
        wrong = under_way.wrong(judgement, differing, settle)
    with db.transaction() as connection:
        db.may_take_long(connection)
        found = recount(connection, cities)
    coming = set(found.idle).difference(under_way.those_in(wrong, found.idle))
    return _Recounting(found, coming, wrong is not None)


def empty() -> dict[str, int]:
    """Empty all caches in one transaction; rows removed by table. The next rebuild, or replay, fills them again."""
    with db.transaction() as connection:
        db.may_take_long(connection)
        products, companies, counts = clear(connection)
    return {"product_city_mapping": products, "company_city_mapping": companies, "city_counts": counts}
