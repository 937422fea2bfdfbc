"""What a read asks the database, and the answer that is made of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from backend.app.api.conditional import Document
from backend.app.api.reading.look import Shown
from backend.app.api.reading.sessions import Session
from backend.app.caches.reads import Read, Row

encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder(decimal_format="number").encode


Answer = tuple[Document, float]  # and since when, in monotonic seconds, it may lack what nobody has noted


@dataclass(frozen=True)
class Lookup:
    """What is asked of the database, and the answer that is made of it."""

    put: Callable[[Session], Answer]  # may raise NotFound
    shows: Shown | None = None  # and nothing else


def of_rows(read: Read, told: Callable[[list[Row]], Document], shows: Shown | None = None) -> Lookup:
    """An answer that the rows of one statement make."""

    def put(session: Session) -> Answer:
        begun = time.monotonic()
        return told(session.rows(read.statement, read.parameters)), begun

    return Lookup(put, shows)
