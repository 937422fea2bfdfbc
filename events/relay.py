"""The relay: outbox → exchange. Any number may run, one leads.

`run_once` is the work: claim, deliver, take out. `run` is the loop around it: lead, wait, back off, stop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Protocol

import psycopg2.extensions
from tenacity import Retrying, retry_if_exception_type, wait_exponential_jitter
from tenacity.stop import stop_when_event_set

from events import contract
from events.errors import EventError
from events.outbox import Outbox, Row

log = logging.getLogger(__name__)
PASSED_SECONDS: Final = 5.0  # after which a row that is passed over is an alarm
BEAT_SECONDS: Final = 0.2  # how often the broker is listened to at rest
FOLLOW_SECONDS: Final = 1.0  # how often a relay that does not lead asks for the lock
SLOWER: Final = 1.1  # each pause at rest beside the one before it; the longest comes after 0.25 s
ROUND_SECONDS: Final = 0.01  # from one round to the next while few rows come: a message costs all that follow it


class Deliverer(Protocol):
    """Where claimed rows go: the broker, or straight to the consumer in the same process."""

    def deliver(self, rows: Sequence[Row]) -> list[int]:
        """Deliver; the ids that need not be delivered again."""
        ...

    def heartbeat(self) -> None:
        """Called when there is nothing to deliver."""
        ...

    def close(self) -> None:
        """Give up."""
        ...


@dataclass(frozen=True)
class Pace:
    """How the relay polls: at once under load, ever more slowly at rest."""

    rows: int  # most rows of one claim
    shortest_seconds: float
    longest_seconds: float


@dataclass(frozen=True)
class Relayed:
    """What one round did."""

    claimed: int
    delivered: int
    left: tuple[int, ...] = ()  # ids of rows that were offered, and neither taken nor buried


def rest(relayed: Relayed, seconds: float) -> float:
    """Seconds to wait after a round that found rows and took so long; rows that come meanwhile share a message."""
    return max(0.0, ROUND_SECONDS - seconds) if relayed.claimed < contract.MOST_EVENTS else 0.0


class RelayWatcher:
    """Hears what a relay does; this one keeps it to itself. Called from the relay's own thread: be quick."""

    def led(self, leads: bool) -> None:
        """This relay leads from now on, or no more."""

    def relayed(self, relayed: Relayed) -> None:
        """A round is done, an empty one as well."""

    def followed(self) -> None:
        """Another relay leads, still."""

    def failed(self, failure: BaseException) -> None:
        """A server is lost; the relay will try again."""

    def waits(self, seconds: float) -> None:
        """For how long the oldest row has been offered while others were taken; after each round."""

    def floor_reset(self) -> None:
        """A row was found below the outbox's floor, where none can be unless somebody set the sequence back."""


def run_once(outbox: Outbox, deliverer: Deliverer, rows: int) -> Relayed:
    """Claim, deliver, take out. No transaction is open while the broker is waited for."""
    claimed = outbox.claim(rows)
    if not claimed:
        return Relayed(0, 0)
    delivered = deliverer.deliver(claimed)
    if delivered:
        outbox.remove(delivered)
    left = {row.id for row in claimed}.difference(delivered) if len(delivered) < len(claimed) else ()
    return Relayed(len(claimed), len(delivered), tuple(sorted(left)))


class Passed:
    """Rows that the relay offers again and again while others are taken; one that waits for long is an alarm."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}  # when each was left first, monotonic
        self._told: int | None = None  # the row that the log has been told of

    def take(self, relayed: Relayed) -> float:
        """Note a round; for how long the oldest of its rows has been passed over, in seconds."""
        now = time.monotonic()
        self._since = {row_id: self._since.get(row_id, now) for row_id in relayed.left}
        oldest, since = min(self._since.items(), key=itemgetter(1), default=(0, now))
        if relayed.delivered and now - since > PASSED_SECONDS and oldest != self._told:
            self._told = oldest
            log.error("outbox row %s waits for %.0f s while others are published", oldest, now - since)
        return now - since


class Relay:
    """The loop. Lost servers are waited for with back-off, for any time."""

    def __init__(
        self,
        connect: Callable[[], psycopg2.extensions.connection],
        deliverer: Callable[[Outbox], Deliverer],
        pace: Pace,
        away: tuple[type[Exception], ...],
        watcher: RelayWatcher | None = None,
    ) -> None:
        self._connect, self._deliverer, self._pace, self._watcher = connect, deliverer, pace, watcher or RelayWatcher()
        self._away: tuple[type[Exception], ...] = (EventError, *away)
        self._stop = threading.Event()

    def stop(self) -> None:
        """End after the round under way."""
        self._stop.set()

    def run(self) -> None:
        """Relay until stopped."""
        attempts = Retrying(
            retry=retry_if_exception_type(self._away),
            wait=wait_exponential_jitter(multiplier=0.1, max=5, jitter=0.2),
            stop=stop_when_event_set(self._stop),
            sleep=self._sleep,
            before_sleep=lambda state: self._wait_after(state.outcome.exception() if state.outcome else None),
            reraise=True,
        )
        while not self._stop.is_set():
            try:
                attempts(self._lead_and_relay)
            except self._away:
                if not self._stop.is_set():
                    raise

    def _wait_after(self, failure: BaseException | None) -> None:
        log.warning("relay waits: %s", failure)
        if failure:
            self._watcher.failed(failure)

    def _lead_and_relay(self) -> None:
        outbox = Outbox(self._connect(), self._watcher.floor_reset)
        try:
            if not self._await_lead(outbox):
                return
            deliverer = self._deliverer(outbox)
            try:
                log.info("relay leads")
                self._watcher.led(True)
                self._rounds(outbox, deliverer)
            finally:
                self._watcher.led(False)
                deliverer.close()
        finally:
            outbox.close()

    def _await_lead(self, outbox: Outbox) -> bool:
        while not self._stop.is_set():
            if outbox.lead():
                return True
            self._watcher.followed()
            self._sleep(FOLLOW_SECONDS)
        return False

    def _rounds(self, outbox: Outbox, deliverer: Deliverer) -> None:
        """Rounds until stopped; a failure after a delivery ends them quietly, so that back-off starts anew."""
        pause, longest, passed = self._pace.shortest_seconds, self._pace.longest_seconds, Passed()
        delivered, beat_at = 0, 0.0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                relayed = run_once(outbox, deliverer, self._pace.rows)
                if not relayed.claimed and time.monotonic() >= beat_at:
                    deliverer.heartbeat()
                    beat_at = time.monotonic() + BEAT_SECONDS
                has_rested = not relayed.claimed and pause >= longest and outbox.rest(pause)
            except self._away as failure:
                if not delivered:
                    raise
                log.warning("relay starts anew: %s", failure)
                self._watcher.failed(failure)
                return
            self._watcher.relayed(relayed)
            self._watcher.waits(passed.take(relayed))
            delivered += relayed.delivered
            if relayed.claimed:
                pause = self._pace.shortest_seconds
                self._sleep(rest(relayed, time.monotonic() - began))
            elif not has_rested:
                self._sleep(pause)
                pause = min(pause * SLOWER, longest)

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)
