"""What a read asks the database, and the answer that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from backend.app.api.conditional import Document
from backend.app.api.reading.look import Shown
from backend.app.api.reading.sessions import Session
from backend.app.caches.reads import Read

encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class Lookup:
    """A statement, and the answer that its rows make."""

    read: Read
    told: Callable[[list[Any]], Document]  # of dictionaries; may raise NotFound
    shows: Shown | None = None  # and nothing else
    is_wide: bool = False  # rows are tuples: there are so many that their names would cost more than all the rest

    def put(self, session: Session) -> Document:
        """Ask the database."""
        rows = session.tuples if self.is_wide else session.rows
        return self.told(rows(self.read.statement, self.read.parameters))
