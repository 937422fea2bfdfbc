"""From keys to patches: a company takes its products along, in this batch if they are few, else in a wide patch.

Which products a company has is read before their lanes are locked. That is safe: a product that joins the company
after the reading has an event of its own, and whatever patches it then reads the company as it is by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches.keys import Cause, Keys, chunks
from backend.app.caches.patch import as_array, patch
from backend.app.errors import DatabaseAway
from backend.app.settings import settings
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_name("apply.sql"))
EVERYTHING: Final = 0  # the company id of a wide patch that means all tables, after a TRUNCATE


@dataclass(frozen=True)
class Plan:
    """Which transactions a batch of keys needs."""

    parts: Sequence[Keys]  # one transaction each; at least one
    wide: Sequence[int] = ()  # companies whose products are left to a wide patch


@dataclass(frozen=True)
class Applied:
    """What came of a batch of keys."""

    keys: int  # looked at, products of companies included
    patched: int  # mapping rows changed
    wide: Sequence[int] = ()  # companies whose products are left to a wide patch


def plan(keys: Keys, truncated: bool = False, most: int | None = None) -> Plan:
    """These keys and the products of these companies, at most `most` a transaction. Raises DatabaseAway.

    Whoever carries it out requests the wide patches in its first transaction, so they are durable before any event is
    acknowledged.
    """
    most = most or 2 * settings().batch_keys  # a batch is closed when it is full, so most are a little more than full
    with db.transaction() as connection:
        own, wide = _products_of(connection, keys.companies)
    if truncated:
        wide = [*wide, EVERYTHING]
    products = sorted({*keys.products, *own})
    parts = [Keys((), part, ()) for part in chunks(keys.companies, most)]
    parts += [Keys(part, (), ()) for part in chunks(products, most)]
    parts += [Keys((), (), part) for part in chunks(keys.cities, most)]
    return Plan(_packed(parts, most), wide)


def apply(keys: Keys, cause: Cause, truncated: bool = False) -> Applied:
    """Patch these keys and the products of these companies.

    Raises DatabaseAway; then the caller tries the same keys again, which is harmless.
    """
    planned = plan(keys, truncated)
    applied = Applied(0, 0, planned.wide)
    for number, part in enumerate(planned.parts):
        with db.transaction() as connection:
            if number == 0:
                request_wide(connection, planned.wide, cause)
            rows = patch(connection, part, cause).rows
        applied = Applied(applied.keys + len(part), applied.patched + rows, planned.wide)
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


def request_wide(connection: Connection, companies: Sequence[int], cause: Cause) -> None:
    """Ask for wide patches of these companies, in the caller's transaction."""
    if not companies:
        return
    event_ids = [cause.events.get(f"company/{company}") for company in sorted(companies)]
    _all(connection, "request_wide", companies=sorted(companies), event_ids=event_ids)


@dataclass(frozen=True)
class WideHooks:
    """What working off wide patches needs from its caller."""

    everything: Callable[[], Any]  # reconciles all tables
    apart: Callable[[Sequence[int]], Any]  # patches products one by one when a chunk of them failed
    progress: Callable[[dict[str, Any]], None] = lambda state: None


def drain_wide(task: str, task_id: str, hooks: WideHooks) -> dict[str, int]:
    """Work off all wide patches, one chunk a transaction. One caller at a time."""
    done = {"companies": 0, "keys": 0, "patched": 0, "reconciled": 0}
    while request := _next_wide():
        company, generation, after, event_id = request
        if company == EVERYTHING:
            hooks.everything()
            done["reconciled"] += 1
        else:
            cause = Cause(task, task_id, {f"company/{company}": event_id} if event_id else {})
            _patch_company((company, generation, after), cause, done, hooks)
        with db.transaction() as connection:
            _all(connection, "finish_wide", company=company, generation=generation)
    return done


def wide_waits() -> bool:
    """Whether there are wide patches to work off."""
    return _next_wide() is not None


def _next_wide() -> Any:
    with db.transaction() as connection:
        found = _all(connection, "next_wide")
    return found[0] if found else None


def _patch_company(request: tuple[int, int, int], cause: Cause, done: dict[str, int], hooks: WideHooks) -> None:
    company, generation, after = request
    most = settings().wide_patch_keys
    done["companies"] += 1
    while True:
        with db.transaction() as connection:
            products = [row[0] for row in _all(connection, "next_products", company=company, after=after, most=most)]
        if not products:
            return
        done["patched"] += _patch_chunk(products, cause, hooks)
        after = products[-1]
        with db.transaction() as connection:
            _all(connection, "advance_wide", company=company, generation=generation, after=after)
        done["keys"] += len(products)
        hooks.progress({"company_id": company, **done})


def _patch_chunk(products: list[int], cause: Cause, hooks: WideHooks) -> int:
    try:
        with db.transaction() as connection:
            return patch(connection, Keys(products), cause).rows
    except DatabaseAway:
        raise
    except Exception:
        log.exception("a chunk of a wide patch failed and is taken apart")
        hooks.apart(products)
        return 0


def _all(connection: Connection, name: str, **parameters: Any) -> list[Any]:
    values = {key: as_array(value) for key, value in parameters.items()}
    result = connection.exec_driver_sql(SQL[name], values)
    return list(result.fetchall()) if result.returns_rows else []
