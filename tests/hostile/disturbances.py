"""What is done to the servers and clocks, by kind; each ends with events that flow again."""

from __future__ import annotations

import random as randomness
import threading
import time
from collections.abc import Callable
from typing import Final

from tests.hostile.probes import Span
from tests.hostile.siege import CONSUMER_SECONDS, Siege
from tests.hostile.tally import Tally
from tests.odd_settings import LEVELS, altered, known
from tests.plain import Plain
from tests.system import EVERYTHING

PAUSE: Final = 4.0  # seconds between two, at most
CLOCKS: Final = ("+1d", "-1d", "+400d", "-400d", "+90s", "-90s", "+3h", "-3h")
CUT_OFF: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name NOT LIKE 'test %'"""
HOLD: Final = "SELECT FROM active_cities_cache FOR UPDATE"
QUEUED: Final = """
    SELECT count(DISTINCT task) FROM task_runs
     WHERE scheduled_for >= to_timestamp(%s) AND scheduled_for <= clock_timestamp() AND error IS NULL"""
ENTRIES: Final = 4  # of the schedule
SCHEDULE_SECONDS: Final = 45.0  # in which a run is queued that was due while its broker was away
Disturbance = Callable[["Disturber"], str]  # what was done, in words; waits as long as it lasts


class Disturber:
    """One disturbance after the other, drawn by a seed."""

    def __init__(self, siege: Siege, seed: int, tally: Tally, kinds: tuple[str, ...]) -> None:
        self.siege, self.dice = siege, randomness.Random(seed)
        self.spans: list[Span] = []  # when servers or processes were away by our doing, until events flowed again
        self.stop = threading.Event()
        self._tally, self.kinds = tally, kinds

    def work(self, stop: threading.Event) -> None:
        """Until stopped; then all is as it should be."""
        self.stop, number = stop, 0
        while not stop.wait(self.dice.uniform(0, PAUSE)):
            kind, number = self.dice.choice(self.kinds), number + 1
            try:
                outcome = DISTURBANCES[kind](self)
            except AssertionError as failure:
                self._tally.complain(f"disturbance: {kind}", str(failure).partition("\n")[0])
            else:
                self._tally.note(f"disturbance: {kind}", outcome)

    def flows(self, begin: float) -> float:
        """Wait until events flow again; seconds since it began, which count as ours."""
        try:
            self.siege.await_flow(f"disturbance at {begin}")
        finally:
            self.spans.append((begin, time.monotonic()))
        return time.monotonic() - begin


def _settings(disturber: Disturber) -> str:
    """All odd defaults at once, or one of them, for connections that are made from now on."""
    siege, dice = disturber.siege, disturber.dice
    with siege.plant.sql() as server:
        odd = {name: dice.choice(values) for name, values in known(server).items()}
        chosen = odd if dice.random() < 0.5 else dict([dice.choice(list(odd.items()))])
        with altered(server, dice.choice(LEVELS), chosen):
            begin = time.monotonic()
            server.run(CUT_OFF)
            disturber.flows(begin)
            disturber.stop.wait(dice.uniform(1, 5))
        begin = time.monotonic()
        server.run(CUT_OFF)
    disturber.flows(begin)
    return "all at once" if len(chosen) > 1 else "one"


def _clock(disturber: Disturber) -> str:
    """A part is started by a wrong clock, and later by a right one."""
    siege, dice = disturber.siege, disturber.dice
    name, offset = dice.choice(EVERYTHING), dice.choice(CLOCKS)
    siege.plant.clocks[name] = offset
    try:
        _restart(disturber, name)
        disturber.stop.wait(dice.uniform(2, 15))
    finally:
        del siege.plant.clocks[name]
    _restart(disturber, name)
    return f"{name} {offset}"


def _restart(disturber: Disturber, name: str) -> None:
    begin, before = time.monotonic(), disturber.siege.pid(name)
    disturber.siege.kill(name)
    while disturber.siege.pid(name) in (None, before) and not disturber.stop.wait(0.05):
        continue
    disturber.flows(begin)


def _broker_before_due(disturber: Disturber) -> str:
    """RabbitMQ is killed just before an instant of the schedule, which passes without it."""
    every = disturber.siege.due_seconds
    due = (time.time() // every + 1) * every
    if disturber.stop.wait(max(0.0, due - 1 - time.time())):
        return "not any more"
    _restart(disturber, "rabbitmq")
    end = time.monotonic() + SCHEDULE_SECONDS
    with disturber.siege.plant.sql() as sql:
        while sql.one(QUEUED, [due]) < ENTRIES:
            if time.monotonic() > end:
                raise AssertionError(f"not all that was due is queued {SCHEDULE_SECONDS:g} s after the broker's return")
            disturber.stop.wait(0.2)
    return "flowed, and what was due is queued"


def _hold(disturber: Disturber) -> str:
    """Patches wait for a lock for longer than the broker lets messages be unacknowledged."""
    siege = disturber.siege
    begin = time.monotonic()
    with Plain(siege.plant.servers[0], autocommit=False) as holder:
        holder.run(HOLD)
        disturber.stop.wait(CONSUMER_SECONDS + disturber.dice.uniform(2, 6))
        holder.rollback()
    disturber.flows(begin)
    return "flowed"


DISTURBANCES: Final[dict[str, Disturbance]] = {
    "settings": _settings, "clock": _clock, "broker before due": _broker_before_due, "patches held": _hold,
}  # fmt: skip
