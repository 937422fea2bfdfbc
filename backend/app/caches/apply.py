"""From keys to patches: a company takes its products along, in this batch if they are few, else in a wide patch.

Which products a company has is read before their lanes are locked. That is safe: a product that joins the company
after the reading has an event of its own, and whatever patches it then reads the company as it is by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import watched
from backend.app.caches.keys import Cause, Keys, chunks
from backend.app.caches.patch import patch
from backend.app.database.statement import run_named
from backend.app.errors import DatabaseAway
from backend.app.settings import settings
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_name("apply.sql"))
_all: Final = partial(run_named, SQL)
CHUNK_OF_COMPANIES: Final = 100  # of a watched set, with their products; bounds what others wait for
NOT_BEGUN: Final = -(2**63)  # where a wide patch stands that has no product behind it, or only the one of this id


@dataclass(frozen=True)
class Plan:
    """Which transactions a batch of keys needs."""

    parts: Sequence[Keys]  # one transaction each; at least one
    wide: Sequence[int] = ()  # companies whose products are left to a wide patch
    everything: bool = False  # all tables are left to a wide patch
    watched: Sequence[tuple[int, int]] = ()  # sets of watched changes that are left to a wide patch

    @property
    def leaves_some(self) -> bool:
        """Whether wide patches are to be requested."""
        return bool(self.wide) or self.everything or bool(self.watched)


@dataclass(frozen=True)
class Applied:
    """What came of a batch of keys."""

    keys: int  # looked at, products of companies included
    patched: int  # mapping rows changed
    leaves_some: bool = False  # to wide patches that have been requested


def plan(keys: Keys, truncated: bool = False, most: int | None = None, changes: Sequence[int] = ()) -> Plan:
    """These keys, those that watched changes may have moved, and the products of these companies, at most `most` a
    transaction. Raises DatabaseAway.

    Whoever carries it out requests the wide patches in its first transaction, so they are durable before any event is
    acknowledged.
    """
    most = most or 2 * settings().batch_keys  # a batch is closed when it is full, so most are a little more than full
    if not (keys.companies or changes):
        return _divided(keys, (), watched.MaybeMoved(is_unknown=truncated), most)
    with db.transaction() as connection:
        return plan_in(connection, keys, truncated, most, changes)


def plan_in(connection: Connection, keys: Keys, truncated: bool, most: int, changes: Sequence[int]) -> Plan:
    """The same as this transaction sees it."""
    moved = watched.moved(connection, changes, settings().wide_patch_keys)
    keys = keys.joined(moved.keys)
    own, wide = _products_of(connection, keys.companies)
    keys = replace(keys, products=sorted({*keys.products, *own}))
    return _divided(keys, wide, replace(moved, is_unknown=truncated or moved.is_unknown), most)


def _divided(keys: Keys, wide: Sequence[int], moved: watched.MaybeMoved, most: int) -> Plan:
    parts = [Keys((), part, ()) for part in chunks(keys.companies, most)]
    parts += [Keys(part, (), ()) for part in chunks(keys.products, most)]
    parts += [Keys((), (), part) for part in chunks(keys.cities, most)]
    return Plan(_packed(parts, most), wide, moved.is_unknown, moved.wide)


def apply(keys: Keys, cause: Cause, truncated: bool = False) -> Applied:
    """Patch these keys and the products of these companies.

    Raises DatabaseAway; then the caller tries the same keys again, which is harmless.
    """
    planned = plan(keys, truncated)
    applied = Applied(0, 0, planned.leaves_some)
    for number, part in enumerate(planned.parts):
        with db.transaction() as connection:
            if number == 0:
                request_wide(connection, planned, cause)
            rows = patch(connection, part, cause).rows
        applied = replace(applied, keys=applied.keys + len(part), patched=applied.patched + rows)
    return applied


def _packed(parts: list[Keys], most: int) -> list[Keys]:
    """Small parts in one transaction, large ones each in their own; at least one."""
    if sum(map(len, parts)) <= most:
        return [
            Keys(
                [key for part in parts for key in part.products],
                [key for part in parts for key in part.companies],
                [key for part in parts for key in part.cities],
            )
        ]
    return parts


def _products_of(connection: Connection, companies: Sequence[int]) -> tuple[list[int], list[int]]:
    """Products of small companies, and the companies that are too large for a batch."""
    if not companies:
        return [], []
    most = settings().wide_patch_keys
    found = _all(connection, "products_of", companies=list(companies), most=most)
    own = [product for _, products in found if len(products) <= most for product in products]
    return own, sorted(company for company, products in found if len(products) > most)


def request_wide(connection: Connection, planned: Plan, cause: Cause) -> None:
    """Ask for the wide patches of a plan, in the caller's transaction."""
    companies = sorted(planned.wide)
    event_ids = [cause.events.get(f"company/{company}") for company in companies]
    if companies:
        _all(connection, "request_wide", companies=companies, event_ids=event_ids)
    if planned.everything:
        _all(connection, "request_everything")
    watched.request(connection, planned.watched, cause.events)


def ask_for_everything() -> None:
    """Have all tables reconciled. Raises DatabaseAway."""
    _run("request_everything")


@dataclass(frozen=True)
class WideHooks:
    """What working off wide patches needs from its caller."""

    everything: Callable[[], Any]  # reconciles all tables
    apart: Callable[[Sequence[int]], Any]  # patches products one by one when a chunk of them failed
    progress: Callable[[dict[str, Any]], None] = lambda state: None


def drain_wide(task: str, task_id: str, hooks: WideHooks, done: dict[str, int] | None = None) -> dict[str, int]:
    """Work off all wide patches, one chunk a transaction. One caller at a time."""
    done = done or {"companies": 0, "keys": 0, "patched": 0, "reconciled": 0}
    while request := _next_wide():
        company, generation, after, event_id = request
        if company is None:
            hooks.everything()
            done["reconciled"] += 1
            _run("finish_everything", generation=generation)
            continue
        cause = Cause(task, task_id, {f"company/{company}": event_id} if event_id else {})
        _patch_company((company, generation, None if after == NOT_BEGUN else after), cause, done, hooks)
        _run("finish_wide", company=company, generation=generation)
    if watched.next_request():
        _drain_watched(task, task_id, done, hooks)
        return drain_wide(task, task_id, hooks, done)
    return done


def _drain_watched(task: str, task_id: str, done: dict[str, int], hooks: WideHooks) -> None:
    """Work off the sets of watched changes; a company of one takes its products along as ever."""
    while request := watched.next_request():
        cause = Cause(task, task_id, {f"watched/{request.change}": request.event_id} if request.event_id else {})
        for last, keys in watched.chunks_of(request, CHUNK_OF_COMPANIES):
            done["patched"] += _patch_watched(keys, cause, hooks)
            done["keys"] += len(keys)
            watched.advance(request, last)
            hooks.progress({"change": request.change, **done})
        watched.finish(request)


def _patch_watched(keys: Keys, cause: Cause, hooks: WideHooks) -> int:
    if keys.products:
        return _patch_chunk(list(keys.products), cause, hooks)
    patched = apply(keys, cause).patched
    for city in keys.cities:
        for companies in watched.companies_in(city, CHUNK_OF_COMPANIES):
            patched += apply(Keys((), companies), cause).patched
    return patched


def _next_wide() -> Any:
    found = _run("next_wide")
    return found[0] if found else None


def _patch_company(request: tuple[int, int, int | None], cause: Cause, done: dict[str, int], hooks: WideHooks) -> None:
    company, generation, after = request
    most = settings().wide_patch_keys
    done["companies"] += 1
    while products := _next_products(company, after, most):
        done["patched"] += _patch_chunk(products, cause, hooks)
        after = products[-1]
        _run("advance_wide", company=company, generation=generation, after=after)
        done["keys"] += len(products)
        hooks.progress({"company_id": company, **done})


def _next_products(company: int, after: int | None, most: int) -> list[int]:
    with db.transaction() as connection:
        return products_after(connection, company, after, most)


def products_after(connection: Connection, company: int, after: int | None, most: int) -> list[int]:
    """The next products that a change of the company touches, in the order of their ids; None: the first ones."""
    return [row[0] for row in _all(connection, "next_products", company=company, after=after, most=most)]


def _patch_chunk(products: list[int], cause: Cause, hooks: WideHooks) -> int:
    try:
        with db.transaction() as connection:
            return patch(connection, Keys(products), cause).rows
    except Exception as failure:
        if isinstance(failure, DatabaseAway) or db.is_rollback(failure):
            raise
        log.exception("a chunk of a wide patch failed and is taken apart")
        hooks.apart(products)
        return 0


def _run(name: str, **parameters: Any) -> list[Any]:
    with db.transaction() as connection:
        return _all(connection, name, **parameters)
