"""What stands around a meeting: a database, this process's settings, and whatever mistake is put in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backend.app import db, settings
from backend.app.caches import rebuilds
from backend.app.tasks.events import WidePatches
from events.floor import Floor
from tests.model.interleavings import Explored, explore
from tests.model.mistakes import Mistake
from tests.model.scenarios import QUEUED, Meeting
from tests.model.sessions import LedPool, led_engine
from tests.model.world import World
from tests.plain import Plain
from tests.servers import Databases


def tried(databases: Databases, meeting: Meeting, mistake: Mistake | None = None) -> Explored:
    """All orders of a meeting, in a database of its own."""
    with (
        databases.migrated() as url,
        pytest.MonkeyPatch.context() as patches,
        _configured(url, meeting, patches),
        Plain(url) as plain,
    ):
        world = World(plain)
        meeting.prepare(world)
        if mistake:
            mistake.make(patches, plain)
        with led_engine():
            return explore(meeting.scenario(world), plain)


@contextmanager
def _configured(url: str, meeting: Meeting, patches: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"DATABASE_URL": url, **meeting.settings}.items():
        patches.setenv(name, value)
    patches.setattr("events.floor.RAISE_SECONDS", 0.0)
    patches.setattr(Floor, "_look", lambda floor: None)  # the proof alone, without what is looked for below it
    patches.setattr(rebuilds, "ThreadPoolExecutor", LedPool)
    patches.setattr(WidePatches, "_publish", lambda task, args, kwargs, task_id, options: QUEUED.append(task_id))
    settings.settings.cache_clear()
    try:
        yield
    finally:
        db.dispose()
        settings.settings.cache_clear()
