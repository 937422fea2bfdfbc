"""Answers that are remembered, and whether they still hold.

PostgreSQL says which transactions a statement sees: `pg_current_snapshot()`. While it says the same, every statement
sees the same rows; an answer of cities and counts holds also while nobody has changed those, see look.py. It is asked
anew for every request, once for all that came before it was put; an answer is therefore as new as one that was read for
this request alone.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.types import Scope

from backend.app.api.conditional import Document
from backend.app.api.deadline import SECONDS
from backend.app.api.edge.turns import Turns
from backend.app.api.fresh.asking import names_fresh
from backend.app.api.reading.look import CommonLook, Seen, Shown
from backend.app.api.reading.lookup import Lookup
from backend.app.api.reading.memory import Memory
from backend.app.api.reading.rounds import Rounds
from backend.app.api.reading.sessions import Session, Sessions
from backend.app.api.security import caller_of

SESSIONS: Final = 6
AT_ONCE: Final = SESSIONS // 2  # statements that one caller has begun
MOST_SECONDS: Final = 2.0  # that an answer is kept: dates are told to the second, and grow more exact with time
REST_SECONDS: Final = 0.002  # about what it takes until those who were answered together have asked again
MOST_UNSEEN: Final = 15  # beside writes; so many are read for nothing when these end
MOST_ANSWERS: Final = 5_000
MOST_BYTES: Final = 2**25
Target = tuple[str, bytes]  # path and query as they were sent


@dataclass(frozen=True)
class KeptAnswer:
    """An answer, and until when it may be given again."""

    seen: Seen | None  # that it is not older than; None where nobody could tell
    shows: Shown | None  # and nothing else
    answer: Document
    until: float  # monotonic seconds

    def may_hold(self) -> bool:
        """Whether that depends on what is seen now: not once its time is over, nor where nobody could tell."""
        return self.seen is not None and time.monotonic() < self.until

    def holds(self, seen: Seen | None) -> bool:
        """Whether the same statement would see the same rows; never where nobody can tell."""
        if not self.may_hold() or seen is None or self.seen is None or seen.server != self.seen.server:
            return False
        return seen.snapshot == self.seen.snapshot or (seen.notes(self.shows) and seen.change == self.seen.change)


@dataclass(eq=False)
class Known:
    """An address that has been asked for."""

    target: Target
    lookup: Lookup
    route: str  # that has understood it, as a template
    rounds: Rounds[Document] = field(init=False)
    share: str = ""  # of whoever asked first, for the next round
    kept: KeptAnswer | None = None
    seen: Seen | None = None  # the last time
    unseen: int = 0  # answers to read without a look, which would only say again that what is kept does not hold
    step: int = 0  # how many that were the last time; 0: what is kept may hold

    def is_looked_for(self) -> bool:
        """Whether it is worth a look before the next answer."""
        self.unseen -= (skipped := self.unseen > 0)
        return not skipped

    def looked(self, seen: Seen | None) -> None:
        """Learn from a look how long the next ones are spared."""
        before, self.seen = self.seen, seen
        moves = before is not None and before != seen and not (seen and seen.notes(self.lookup.shows))
        self.unseen = self.step = min(2 * self.step + 1, MOST_UNSEEN) if moves else 0

    def read(self, seen: Seen | None, session: Session) -> KeptAnswer:
        """What the database says, which has been looked at before."""
        of_this = seen if seen is not None and seen.server == session.server() else None
        answer, since = self.lookup.put(session)
        return KeptAnswer(of_this, self.lookup.shows, answer, since + MOST_SECONDS)


class Answers:
    """Of one application."""

    def __init__(self, most: int = MOST_ANSWERS, most_bytes: int = MOST_BYTES, seconds: float = SECONDS) -> None:
        """`seconds`: after which nobody waits for an answer any more."""
        self._memory: Memory[Known] = Memory(most, most_bytes)
        self._look, self._sessions = CommonLook(), Sessions(SESSIONS)
        self._turns = Turns(AT_ONCE, seconds)

    def known(self, scope: Scope) -> Known | None:
        """What is remembered of the address of this request."""
        return self._memory.get(_target(scope))

    async def of(self, request: Request, lookup: Lookup) -> Document:
        """The answer to a lookup that a route has understood. Raises what its statement raises, and NotFound."""
        scope, target = request.scope, _target(request.scope)
        known = self._memory.get(target)
        if known is None:
            known = Known(target, lookup, getattr(scope.get("route"), "path", "other"))
            known.rounds = Rounds(partial(self._asked, known), partial(asyncio.sleep, REST_SECONDS))
            if not names_fresh(scope["query_string"]):  # such a one is not asked for again
                self._memory.keep(target, known, _length(target))
        known.lookup = lookup  # the definition may have changed
        return await self.kept(known) or await self.read(known, caller_of(scope).share)

    async def kept(self, known: Known) -> Document | None:
        """The answer that is remembered, if it shows all that has been committed by now."""
        kept = known.kept
        if kept and not known.step and kept.may_hold() and kept.holds(await self._look()):
            return kept.answer
        return None

    async def read(self, known: Known, share: str) -> Document:
        """An answer not older than this moment, with all who ask for it at once."""
        known.share = known.share or share
        return await known.rounds()

    def stop(self) -> None:
        """Close all sessions."""
        self._sessions.stop()
        self._look.stop()

    async def _asked(self, known: Known) -> Document:
        share, known.share = known.share, ""
        async with self._turns.of(share):
            seen = None
            if known.is_looked_for():
                known.looked(seen := await self._look())
                if known.kept and known.kept.holds(seen):
                    return known.kept.answer
            known.kept = await self._sessions.run(partial(known.read, seen))
        self._memory.weigh(known.target, known, _length(known.target) + len(known.kept.answer.body))
        return known.kept.answer


def _target(scope: Scope) -> Target:
    return scope["path"], scope["query_string"]


def _length(target: Target) -> int:
    """Callers choose it, so it counts."""
    return sum(map(len, target))
