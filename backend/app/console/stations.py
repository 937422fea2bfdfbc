"""The stations on the way of an event, in its order: what was measured at each, and what health says of it.

A station stands when the judge of health says so, and only then; what waits there for long makes it slow. What cannot
be asked is unknown, not well; whether events pass queue and workers, nobody can say without the database. A server that
is away is to blame itself, not the stations that wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from backend.app.console.readings import WINDOW_SECONDS, Stored
from backend.app.console.trend import Rates
from backend.app.health.answer import Answer
from backend.app.health.inspector import Waiting
from backend.app.health.judge import Wrong
from events import times

State = Literal["ok", "slow", "standing", "unknown"]
SLOW_SECONDS: Final = 2.0  # at rest an event is through in milliseconds
SENTENCES: Final = {  # of what is no incident; the page has them in its languages
    "ok": "All is well.",
    "unasked": "Unknown: no answer.",
    "in_process": "All runs in one process, without a broker.",
    "outbox_waits": "Events wait for the relay, the oldest for {seconds:.0f} s.",
    "queue_waits": "Events wait for a worker, the oldest for {seconds:.0f} s.",
    "worker_partly": "{missing} of {consumers} workers do not answer.",
    "worker_behind": "Workers are at events that are {seconds:.0f} s old.",
    "wide": "A patch of all products of {companies} companies is under way, since {seconds:.0f} s.",
}
PLACES: Final = {  # kind of incident → the server or station where events stand; the first of them is to blame
    "database_away": "database", "schema_old": "database", "broker_away": "broker", "broker_alarm": "broker",
    "column_missing": "writers", "relay_absent": "relay", "relay_stands": "relay", "queue_missing": "queue",
    "worker_absent": "worker", "worker_silent": "worker", "events_held": "worker", "worker_stands": "worker",
    "wide_patch_stands": "caches", "canary_absent": "caches",
}  # fmt: skip


@dataclass(frozen=True)
class Station:
    """One station, or a server that is to blame."""

    name: str  # writers, outbox, relay, queue, worker, caches; database, broker
    state: State = "ok"
    code: str = "ok"  # of SENTENCES, or a kind of incident
    values: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None  # events a second; of the caches, rows
    depth: int | None = None  # what waits here: events, in queue and worker messages
    age_seconds: float | None = None  # of the oldest that waits
    why: str = ""  # the sentence

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        told = {name: _rounded(value) for name, value in asdict(self).items()}
        values = {name: _rounded(value) for name, value in self.values.items()}
        return told | {"values": values, "why": self.why or SENTENCES[self.code].format(**self.values)}


@dataclass(frozen=True)
class Look:
    """All that was read in one look."""

    stored: Answer[Stored]
    carried: Answer[Waiting]  # neither value nor failure: there is no broker
    rates: Rates
    wrong: tuple[Wrong, ...] = ()  # by the judge of health
    now: float = field(default_factory=time.time)  # seconds since the epoch


def way(look: Look) -> list[Station]:
    """The stations, in the order of the way."""
    stands = {station.name: station for station in reversed(_standing(look.wrong))}
    seen = [_writers(look), _outbox(look), _relay(look), _queue(look), _worker(look), _caches(look)]
    return [_judged(station, stands.get(station.name)) for station in seen]


def culprit(look: Look) -> Station | None:
    """Where events stand first: a server, else the first station on the way."""
    return next(iter(_standing(look.wrong)), None)


def _standing(wrong: Iterable[Wrong]) -> list[Station]:
    found = {one.kind: one for one in wrong}
    return [
        Station(place, "standing", kind, {"seconds": found[kind].seconds, **found[kind].values}, why=found[kind].effect)
        for kind, place in PLACES.items()
        if kind in found
    ]


def _judged(seen: Station, standing: Station | None) -> Station:
    if standing is None:
        return seen
    return Station(**{**vars(seen), **{name: vars(standing)[name] for name in ("state", "code", "values", "why")}})


def _writers(look: Look) -> Station:
    if look.stored.value is None:
        return Station("writers", "unknown", "unasked")
    return Station("writers", rate=look.rates.captured)


def _outbox(look: Look) -> Station:
    if (stored := look.stored.value) is None:
        return Station("outbox", "unknown", "unasked")
    age = stored.outbox_seconds or 0.0
    state, code, values = _slow_if(age, "outbox_waits")
    return Station("outbox", state, code, values, look.rates.published, stored.outbox_rows, stored.outbox_seconds)


def _relay(look: Look) -> Station:
    if look.stored.value is None or look.carried.failure:
        return Station("relay", "unknown", "unasked")
    return Station("relay", rate=look.rates.published)


def _queue(look: Look) -> Station:
    if look.carried.failure:
        return Station("queue", "unknown", "unasked")
    if (carried := look.carried.value) is None:
        return Station("queue", code="in_process")
    if look.stored.value is None:
        return Station("queue", "unknown", "unasked", depth=carried.ready or None)
    age = _age(look.now, carried.oldest_held) if carried.ready else None  # what waits is hardly older than what is held
    state, code, values = _slow_if(age or 0.0, "queue_waits")
    return Station("queue", state, code, values, look.rates.published, carried.ready, age)


def _worker(look: Look) -> Station:
    if look.carried.failure:
        return Station("worker", "unknown", "unasked")
    stored, carried = look.stored.value, look.carried.value
    if stored is None:
        return Station("worker", "unknown", "unasked", depth=(carried and carried.held) or None)
    rate = stored.applied / WINDOW_SECONDS
    if carried is None:
        return Station("worker", code="in_process", rate=rate)
    age = _age(look.now, carried.oldest_held)
    state, code, values = _worker_state(carried, age or 0.0)
    return Station("worker", state, code, values, rate, carried.held, age)


def _worker_state(carried: Waiting, age: float) -> tuple[State, str, dict[str, Any]]:
    if carried.workers and carried.silent:
        return "slow", "worker_partly", {"missing": carried.silent, "consumers": carried.consumers}
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
