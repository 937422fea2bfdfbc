"""The stations on the way of an event, in its order, and how each one is: the readings judged, in words.

A station stands when its process or server is missing, or when events wait and none moves. What cannot be asked is
unknown, not well. The first station that stands is the culprit: what comes after it only waits.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from backend.app.api.probe import Answer
from backend.app.console.readings import WINDOW_SECONDS, Carried, Stored
from backend.app.console.trend import Rates
from events import times

State = Literal["ok", "slow", "standing", "unknown"]
SLOW_SECONDS: Final = 2.0  # at rest an event is through in milliseconds
STANDING_SECONDS: Final = 3.0  # without movement: several times what a lost connection takes to be made anew
STUCK_SECONDS: Final = 10.0  # of one batch in a worker's hands, nothing applied meanwhile
SENTENCES: Final = {
    "ok": "All is well.",
    "unasked": "It cannot be asked now.",
    "in_process": "All runs in one process, without a broker.",
    "database_away": "The database does not answer: {failure}",
    "broker_away": "The broker does not answer: {failure}",
    "outbox_waits": "Events wait for the relay, the oldest for {seconds:.0f} s.",
    "relay_missing": "No relay leads: nobody carries events to the broker.",
    "relay_stands": "The relay leads but has moved no event for {seconds:.0f} s.",
    "queue_missing": "The queue of the updater does not exist.",
    "queue_waits": "Events wait for a worker, the oldest for {seconds:.0f} s.",
    "worker_missing": "No worker takes events from the queue.",
    "worker_silent": "No worker has answered for {seconds:.0f} s.",
    "worker_partly": "{missing} of {consumers} workers do not answer.",
    "worker_stands": "Workers hold events for {seconds:.0f} s and have applied none.",
    "worker_behind": "Workers are at events that are {seconds:.0f} s old.",
    "wide": "A patch of all products of {companies} companies is under way, since {seconds:.0f} s.",
    "canary_absent": "No canary has come through for {seconds:.0f} s.",
}


@dataclass(frozen=True)
class Station:
    """One station."""

    name: str  # writers, outbox, relay, queue, worker, caches
    state: State = "ok"
    code: str = "ok"  # of SENTENCES; the page has them in its languages
    values: dict[str, Any] = field(default_factory=dict)
    rate: float | None = None  # events a second; of the caches, rows
    depth: int | None = None  # what waits here: events, in queue and worker messages
    age_seconds: float | None = None  # of the oldest that waits

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, with the sentence."""
        told = {name: _rounded(value) for name, value in asdict(self).items()}
        values = {name: _rounded(value) for name, value in self.values.items()}
        return told | {"values": values, "why": SENTENCES[self.code].format(**self.values)}


@dataclass(frozen=True)
class Look:
    """All that was read in one look."""

    stored: Answer[Stored]
    carried: Answer[Carried]  # neither value nor failure: there is no broker
    rates: Rates
    late_seconds: float | None = None  # how long no canary has come, when that is too long
    now: float = field(default_factory=time.time)  # seconds since the epoch


def judge(look: Look) -> list[Station]:
    """The stations, in the order of the way."""
    way = [_writers(look), _outbox(look), _relay(look), _queue(look), _worker(look)]
    late = look.late_seconds
    if look.stored.value and late is not None and not any(one.state == "standing" for one in way):
        slow = next((index for index, one in enumerate(way) if one.state == "slow"), None)
        if slow is None:
            return [*way, Station("caches", "standing", "canary_absent", {"seconds": late})]
        way[slow] = Station(**{**vars(way[slow]), "state": "standing"})
    return [*way, _caches(look)]


def culprit(stations: list[Station]) -> Station | None:
    """The first that stands. The outbox never does: it is a table that somebody must empty."""
    return next((station for station in stations if station.state == "standing"), None)


def _writers(look: Look) -> Station:
    if look.stored.value is None:
        return Station("writers", "standing", "database_away", {"failure": look.stored.failure or ""})
    return Station("writers", rate=look.rates.captured)


def _outbox(look: Look) -> Station:
    if (stored := look.stored.value) is None:
        return Station("outbox", "unknown", "unasked")
    age = stored.outbox_seconds or 0.0
    state, code, values = _slow_if(age, "outbox_waits")
    return Station("outbox", state, code, values, look.rates.published, stored.outbox_rows, stored.outbox_seconds)


def _relay(look: Look) -> Station:
    if look.carried.failure:
        return Station("relay", "standing", "broker_away", {"failure": look.carried.failure})
    if (stored := look.stored.value) is None:
        return Station("relay", "unknown", "unasked")
    if not stored.relay_leads:
        return Station("relay", "standing", "relay_missing")
    unmoved = min(look.rates.unmoved_seconds, stored.outbox_seconds or 0.0)
    if unmoved > STANDING_SECONDS:
        return Station("relay", "standing", "relay_stands", {"seconds": unmoved})
    return Station("relay", rate=look.rates.published)


def _queue(look: Look) -> Station:
    if look.carried.failure:
        return Station("queue", "unknown", "unasked")
    if (carried := look.carried.value) is None:
        return Station("queue", code="in_process")
    if not carried.queue_exists:
        return Station("queue", "standing", "queue_missing")
    age = _age(look.now, carried.newest_held) if carried.ready else None
    state, code, values = _slow_if(age or 0.0, "queue_waits")
    return Station("queue", state, code, values, look.rates.published, carried.ready, age)


def _worker(look: Look) -> Station:
    if look.carried.failure:
        return Station("worker", "unknown", "unasked")
    stored, carried = look.stored.value, look.carried.value
    rate = stored.applied / WINDOW_SECONDS if stored else None
    if carried is None:
        return Station("worker", code="in_process", rate=rate)
    age = _age(look.now, carried.oldest_held)
    state, code, values = _worker_state(carried, rate, age or 0.0, look.rates.silent_seconds)
    return Station("worker", state, code, values, rate, carried.held, age)


def _worker_state(carried: Carried, rate: float | None, age: float, silent: float) -> tuple[State, str, dict[str, Any]]:
    if not carried.consumers:
        return "standing", "worker_missing", {}
    if silent > STANDING_SECONDS:
        return "standing", "worker_silent", {"seconds": silent}
    if age > STUCK_SECONDS and rate == 0:
        return "standing", "worker_stands", {"seconds": age}
    if 0 < len(carried.workers) < carried.consumers:
        missing = carried.consumers - len(carried.workers)
        return "slow", "worker_partly", {"missing": missing, "consumers": carried.consumers}
    return _slow_if(age, "worker_behind")


def _caches(look: Look) -> Station:
    if (stored := look.stored.value) is None:
        return Station("caches", "unknown", "unasked")
    rate = stored.changed / WINDOW_SECONDS
    if stored.wide_companies and (stored.wide_seconds or 0.0) > SLOW_SECONDS:
        values = {"companies": stored.wide_companies, "seconds": stored.wide_seconds}
        return Station("caches", "slow", "wide", values, rate, stored.wide_companies, stored.wide_seconds)
    return Station("caches", rate=rate)


def _slow_if(age: float, code: str) -> tuple[State, str, dict[str, Any]]:
    return ("slow", code, {"seconds": age}) if age > SLOW_SECONDS else ("ok", "ok", {})


def _rounded(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value


def _age(now: float, event_time: str | None) -> float | None:
    at = times.seconds(event_time, now)
    return None if at is None else now - at
