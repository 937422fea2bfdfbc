"""Peer: the database's own limit. The same events are claimed, patched and deleted with no broker between, by the
product's own statements: one claim at a time, the two halves of its lanes patched side by side as the worker does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from backend.app import db
from backend.app.caches.keys import Cause, Keys, lane_halves
from backend.app.caches.patch import patch
from backend.app.settings import settings
from events.outbox import Outbox, Row

CAUSE: Final = Cause("peer_database")


def apply(until: Callable[[int], bool]) -> None:
    """Apply events until `until(events applied so far)` says so. This process's settings name the database."""
    outbox = Outbox(db.direct("peer"))
    done = 0
    with ThreadPoolExecutor(2) as threads:
        while not until(done):
            rows = outbox.claim(settings().relay_batch_rows)
            if not rows:
                time.sleep(0.003)
                continue
            list(threads.map(_patch, _parts(rows)))
            outbox.remove([row.id for row in rows])
            done += len(rows)
    outbox.close()


def _parts(rows: Sequence[Row]) -> Sequence[list[int]]:
    products = sorted({int(row.subject.partition("/")[2]) for row in rows})
    if len(products) <= settings().batch_keys:
        return [products]
    return lane_halves(products, int, settings().patch_lanes)


def _patch(products: Sequence[int]) -> None:
    with db.transaction() as connection:
        patch(connection, Keys(list(products)), CAUSE)
