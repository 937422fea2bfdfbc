"""The floor of the outbox: the id up to which no row can appear any more.

Ids do not follow the order of commits, so a claim may not begin behind the last id that it has seen: it begins above
a floor that is proven, which only spares it the dead index entries that an old snapshot elsewhere keeps alive.

The proof, in this order:

1. N is the last id that the sequence has handed out.
2. X is a transaction number drawn afterwards. A trigger captures a row after its write, and a write numbers its
   transaction and all those around its savepoints, so whoever had drawn an id up to N had a number below X by then.
3. In a later snapshot every transaction below X has ended: its `xmin` is X or above. That counts prepared transactions
   like running ones, and one that is open counts by the number of its outermost transaction, which is the lowest.
4. In the same snapshot no row up to N is visible. No transaction can bring one any more, so N is a floor.

What stands outside of the proof is looked for, not hoped away: ids that were set back by hand, ids that somebody drew
before the transaction had a number, or that a session kept for later. The floor follows the sequence back, and about
once a second somebody looks below it. A row found there takes the floor away at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

log = logging.getLogger(__name__)
BOTTOM: Final = -(2**63)  # no floor at all
RAISE_SECONDS: Final = 1.0  # how often it is raised; dead rows of one second are scanned in under 1 ms
LOOK_SECONDS: Final = 1.0  # how often somebody looks below it, at most
LOOK_SHARE: Final = 0.01  # of the relay's time may go into looking, where dead index entries make it slow


class Ask(Protocol):
    """Runs a statement of relay.sql by its name; all rows of the answer."""

    def __call__(self, name: str, **parameters: Any) -> list[Any]: ...


class Horizon(NamedTuple):
    """Once all transactions before this one have ended, no further row up to `last` appears."""

    last: int  # id that the sequence had handed out
    transaction: str  # xid8, drawn after that


class Floor:
    """Raised and looked below on the relay's own connection."""

    def __init__(self, ask: Ask, on_reset: Callable[[], None]) -> None:
        """`on_reset` hears that a row was found below."""
        self.id = BOTTOM  # rows up to it need not be looked for
        self._ask, self._on_reset = ask, on_reset
        self._horizon: Horizon | None = None
        self._raise_at = self._look_at = 0.0  # monotonic

    def tend(self) -> None:
        """Raise it and look below it, each when it is due."""
        if time.monotonic() >= self._raise_at:
            self._raise_at = time.monotonic() + RAISE_SECONDS
            self._raise()
        if self.id > BOTTOM and time.monotonic() >= self._look_at:
            self._look()

    def _raise(self) -> None:
        last = self._ask("last_id")[0][0]
        self._give_up_above(last)
        if self._horizon:
            self._settle(self._horizon)
        if not self._horizon and last > self.id:  # at rest the database is spared a transaction number
            self._horizon = Horizon(last, self._ask("next_transaction")[0][0])

    def _give_up_above(self, last: int) -> None:
        """A sequence that was set back by hand hands out ids again that were proven to be over."""
        if last < self.id:
            self.id = BOTTOM
        if self._horizon and last < self._horizon.last:
            self._horizon = None

    def _settle(self, horizon: Horizon) -> None:
        have_ended, lowest = self._ask("settled", floor=self.id, **horizon._asdict())[0]
        if have_ended:
            self.id = horizon.last if lowest is None else lowest - 1
            self._horizon = None

    def _look(self) -> None:
        begin = time.monotonic()
        found = self._ask("below", floor=self.id)[0][0]
        took = time.monotonic() - begin
        self._look_at = begin + max(LOOK_SECONDS, took / LOOK_SHARE)
        if found is not None:
            log.error("outbox row %s stood below the floor %s: the sequence was set back or bypassed", found, self.id)
            self.id, self._horizon = BOTTOM, None
            self._on_reset()
