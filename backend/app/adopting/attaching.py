"""Partitions and children that came after adopting get their triggers. Then everything is compared, since nobody has
seen what was written into them before; and where one is gone, since its rows went without an event."""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.adopting import triggers
from backend.app.adopting.applied import resolved
from backend.app.caches import apply
from backend.app.catalog import definition
from backend.app.catalog.completeness import gaps, parts
from backend.app.errors import BadDefinition, Refused

log = logging.getLogger(__name__)
EVERY_SECONDS: Final = 20.0


class Attaching:
    """Looks again and again; what was there at the look before is only remembered here."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def run_once(self) -> list[str]:
        """Give triggers to those that came; names of those that are gone with their rows. Raises Away."""
        with db.transaction() as connection:
            there = parts(connection)
        gone = [name for oid, name in self._known.items() if oid not in there]
        if gone:
            log.warning("gone with their rows: %s; everything is compared", ", ".join(gone))
            apply.ask_for_everything()
        self._known = there
        attach()
        return gone


def attach() -> list[str]:
    """Make what lacks, where this role may; names of the triggers. Raises DatabaseAway.

    A trigger that somebody has switched off stays so, and is told by health and doctor.
    """
    with db.transaction() as connection:
        found = gaps(connection)
        silent = found.tables + found.unnoted
    if all(table.is_off for table in silent):
        return []
    chosen = definition.current()
    try:
        with db.transaction() as connection:
            off = {(each.oid, each.name) for each in triggers.present(connection, chosen.schema)}
            catalog = resolved(chosen)
            if taken := triggers.taken(connection, catalog):
                raise Refused("; ".join(taken))
            lacking = triggers.lacking(connection, catalog)
            made = triggers.functions(connection, chosen.schema)  # an earlier release adopted without some of them
        fresh = [
            trigger for trigger in lacking if (trigger.part.oid, trigger.name) not in off and trigger.function in made
        ]
        triggers.install(fresh, log.info)
    except (BadDefinition, Refused, DBAPIError) as failure:
        log.warning("tables without triggers stay so: %s", str(failure).splitlines()[0])
        return []
    if fresh:
        apply.ask_for_everything()
    return [f"{trigger.name} on {trigger.part.name}" for trigger in fresh]
