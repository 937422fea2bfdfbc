"""What the caches would become if statements ran: by capture's own events, the updater's fan-out and the one diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from backend.app.caches import diff, outlook
from backend.app.caches.outlook import CountMove, Outlook
from backend.app.preview.captured import Gathered, gather, newest_event
from backend.app.preview.trial import Trial, TrialLimits, trial

MAPPINGS: Final = (diff.TABLES["products"], diff.TABLES["companies"])


@dataclass(frozen=True)
class Preview:
    """What would change."""

    keys: dict[str, int]  # to be patched, by noun
    everything: bool  # whether all tables would be reconciled; then `keys` are of the rest
    tables: dict[str, dict[str, int]]  # rows that appear, disappear, move
    enter: dict[str, list[int]]  # cities that enter the active list, by cache
    leave: dict[str, list[int]]
    counts: Sequence[CountMove]  # the largest moves first
    rows: Sequence[diff.RowDifference]  # the first ones of each mapping

    @property
    def rows_changed(self) -> int:
        """Rows of the mappings."""
        return sum(sum(self.tables[table].values()) for table in MAPPINGS)

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "rows_changed": self.rows_changed,
            "tables": self.tables,
            "active_cities": {kind: {"enter": self.enter[kind], "leave": self.leave[kind]} for kind in self.enter},
            "counts": [vars(move) for move in self.counts],
            "keys": self.keys | {"everything": self.everything},
            "rows": [vars(row) for row in self.rows],
        }


def preview(statements: str, limits: TrialLimits, first: int) -> Preview:
    """Run the statements, look, and roll back; `first`: rows and moves that are named.

    Raises StatementFailed, TooLong, DatabaseAway.
    """
    with trial(limits) as tried:
        newest = newest_event(tried.connection)
        tried.run(statements)
        gathered = gather(tried.connection, newest, tried.go_on)
        return _looked_at(tried, gathered, first)


def _looked_at(tried: Trial, gathered: Gathered, first: int) -> Preview:
    connection = tried.connection
    parts = outlook.windows(connection) if gathered.everything else gathered.parts()
    found, numbers = Outlook(first), {"products": 0, "companies": 0}
    for what, ids in parts:
        tried.go_on()
        found.look(connection, what, ids)
        numbers[what] += len(ids)
    cities = gathered.distinct_cities()
    tried.go_on()
    counts = outlook.count_moves(connection, found.moves, None if gathered.everything else cities)
    enter, leave = outlook.crossing(counts)
    return Preview(
        numbers | {"cities": len(cities)},
        gathered.everything,
        {table: dict(found.sides[table]) for table in MAPPINGS} | {diff.TABLES["counts"]: outlook.sides_of(counts)},
        enter,
        leave,
        counts[:first],
        found.rows,
    )
