"""All tables of ours, by name: whatever else stands in our schema is somebody's."""

from __future__ import annotations

from typing import Final

from backend.app.access import audit_log  # noqa: F401
from backend.app.adopting import tables as adopted  # noqa: F401
from backend.app.caches import tables  # noqa: F401
from backend.app.catalog.models import Base
from backend.app.database.schema import TABLE
from backend.app.dead_letters import letters  # noqa: F401
from backend.app.health import tables as kept  # noqa: F401
from backend.app.ledger import replays  # noqa: F401
from backend.app.ledger import tables as runs  # noqa: F401
from backend.app.observing import tables as observed  # noqa: F401

METADATA: Final = Base.metadata  # filled by the modules above
OF_EVENTS: Final = ("event_outbox", "event_log", "event_log_source")  # which `events` knows


def names() -> list[str]:
    """Of tables; partitions have their table's."""
    return [*METADATA.tables, *OF_EVENTS, TABLE]
