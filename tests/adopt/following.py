"""Events alone, applied by the code of the worker in this process: no rebuild, no comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from backend.app import db
from backend.app.adopting.adopt import adopt
from backend.app.caches import rebuilds
from backend.app.caches.apply import WideHooks, drain_wide
from backend.app.caches.keys import Cause
from backend.app.catalog import definition
from backend.app.settings import settings
from backend.app.worker import batch
from events import contract
from tests.adopt.marketplace import Marketplace

TAKEN = """
    WITH part AS (SELECT id FROM event_outbox ORDER BY id LIMIT %(rows)s),
         gone AS (DELETE FROM event_outbox USING part WHERE event_outbox.id = part.id RETURNING event_outbox.*)
    SELECT event_id::text, type, subject, occurred_at::text FROM gone ORDER BY id"""


@contextmanager
def beside(market: Marketplace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process follows the marketplace's definition."""
    for name in ("DATABASE_URL", "CELERY_BROKER_URL", "CATALOG_FILE"):
        monkeypatch.setenv(name, market.variables()[name])
    settings.cache_clear()
    definition.current.cache_clear()
    db.dispose()
    yield
    db.dispose()
    settings.cache_clear()
    definition.current.cache_clear()


def adopt_here() -> None:
    """Adopt in this process what its definition names."""
    adopt(definition.current(), lambda sentence: None)


def follow(rows: int = 2_000) -> int:
    """Apply all events that wait, oldest first, and what they leave to wide patches; how many there were."""
    applied = 0
    while hints := _taken(rows):
        applied += len(hints)
        batch.apply_batch(batch.Batch(hints), str(uuid4()))
        drain_wide("test", str(uuid4()), WideHooks(_everything, lambda products: pytest.fail(f"failed: {products}")))
    return applied


def _taken(rows: int) -> list[contract.Hint]:
    with db.transaction() as connection:
        found = connection.exec_driver_sql(TAKEN, {"rows": rows}).all()
    return [contract.hint(contract.event(*row, None, None, None)) for row in found]


def _everything() -> None:
    rebuilds.rebuild("companies", Cause("test"), finish=False)
    rebuilds.rebuild("products", Cause("test"), finish=False)
    rebuilds.rebuild_counts(active=True)
