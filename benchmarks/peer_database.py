"""Peer: the database's own limit. The same events are claimed, patched and deleted with no broker between, by the
product's own statements: one claim at a time, its keys patched on two connections side by side as the worker does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from backend.app import db
from backend.app.caches.keys import Cause, Keys, chunks
from backend.app.caches.patch import patch
from backend.app.settings import settings
from events.outbox import Outbox, Row

SIDE_BY_SIDE: Final = 2
CAUSE: Final = Cause("peer_database")


def apply(until: Callable[[int], bool]) -> None:
    """Apply events until `until(events applied so far)` says so. This process's settings name the database."""
    outbox = Outbox(db.direct("peer"))
    done = 0
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        while not until(done):
            rows = outbox.claim(settings().relay_batch_rows)
            if not rows:
                time.sleep(0.003)
                continue
            list(threads.map(_patch, chunks(_products(rows), settings().batch_keys)))
            outbox.delete([row.id for row in rows])
            done += len(rows)
    outbox.close()


def _products(rows: Sequence[Row]) -> list[int]:
    return sorted({int(row.subject.partition("/")[2]) for row in rows})


def _patch(products: Sequence[int]) -> None:
    with db.transaction() as connection:
        patch(connection, Keys(list(products)), CAUSE)
