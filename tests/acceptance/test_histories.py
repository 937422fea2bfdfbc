"""After every history of writes, deliveries, rebuilds, clearings and tampering the caches are what the catalog says.

500 histories; `CITYCACHE_HISTORIES` says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from backend.app import db
from backend.app import settings as own
from backend.app.caches import diff, rebuilds
from tests.histories import Clear, Deliver, End, Step, World, Write, histories, world
from tests.servers import Databases

HISTORIES = int(os.environ.get("CITYCACHE_HISTORIES", "500"))
SMALL = {  # limits so low that small histories go through every branch
    "PATCH_LANES": "3",
    "BATCH_KEYS": "5",
    "WIDE_PATCH_KEYS": "3",
    "REBUILD_CHUNK_KEYS": "2",
    "DRIFT_GRACE_SECONDS": "0",
}


@pytest.fixture(scope="module")
def played(databases: Databases) -> Iterator[World]:
    """One world, emptied between histories: a clone for each would take longer than the history."""
    with pytest.MonkeyPatch.context() as patch, databases.migrated() as url:
        for name, value in {"DATABASE_URL": url, **SMALL}.items():
            patch.setenv(name, value)
        patch.setattr(rebuilds, "WINDOW_ROWS", 3)
        patch.setitem(diff.SQL, "estimate", "SELECT 1000000")
        own.settings.cache_clear()
        db.dispose()
        own_world = world(url)
        yield own_world
        own_world.close()
        db.dispose()
    own.settings.cache_clear()


@pytest.mark.timeout(900)
@settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    print_blob=True,
)
@given(history=histories, seed=st.integers(0, 2**16))
@example(  # a write commits after the patch that its neighbour's event caused has read
    history=[
        Write("insert product", a=8, b=1, c=1, d=0, writer=0, stays_open=True),
        Write("move company", a=1, b=1, c=3, d=0, writer=1),
        Deliver(seed=1, share=100, batches=1, again=0),
        End(writer=0, commits=True),
    ],
    seed=0,
)
@example(history=[Write("truncate cities", a=1, b=1, c=1, d=0), Clear()], seed=1)
def test_the_caches_are_what_the_catalog_says_after_any_history(played: World, history: list[Step], seed: int) -> None:
    played.reset()

    played.play(history, seed)

    assert played.violations() == []
    for result in played.rebuild("all"):
        numbers = asdict(result)
        assert not any(numbers[name] for name in ("missing", "extra", "different", "patched")), numbers
    played.replay(seed)
    assert played.violations() == []
