"""Times that PostgreSQL has and Python has not: infinity, and years before 1 or after 9999.

One such row would fail every list that has it. It is read as the nearest instant that there is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from psycopg2.extensions import PYDATETIMETZ, connection, new_type, register_type

FIRST: Final = datetime.min.replace(tzinfo=UTC)
LAST: Final = datetime.max.replace(tzinfo=UTC)
TIMESTAMPTZ: Final = 1184  # the type's number in PostgreSQL
_library_reads: Any = PYDATETIMETZ


def read_all(session: connection) -> None:
    """Have a connection read every time that its server may send."""
    register_type(_TIME, session)


def _read(text: Any, cursor: Any) -> datetime | None:
    try:
        found: datetime | None = _library_reads(text, cursor)
    except (ValueError, OverflowError):
        return FIRST if str(text).startswith("-") or str(text).endswith("BC") else LAST
    return found


_TIME: Final = new_type((TIMESTAMPTZ,), "TIME", _read)
