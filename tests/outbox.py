"""The outbox as the relay takes it, without the relay."""

from __future__ import annotations

from typing import Final

from events.outbox import CLAIM_LIMITS, SQL, Row
from tests.plain import Plain

LIMITS: Final = {"floor": 0, "rows": 100_000, "ids": None, **CLAIM_LIMITS}


def waiting(plain: Plain) -> list[Row]:
    """What waits, oldest first; it stays there."""
    return [Row(*row[:-2]) for row in plain.all(SQL["claim"], LIMITS)]
