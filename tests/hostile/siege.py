"""The world of a hostile campaign: a fast schedule, clocks that may be wrong, a broker of little patience."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any, Final

from backend.embedded.rabbitmq import RabbitMQ
from events import topology
from tests.faults.beats import Beats
from tests.faults.captured import note_captured
from tests.faults.world import ENVIRONMENT, World
from tests.odd_settings import Unaltered
from tests.plain import Plain

CONSUMER_SECONDS: Final = 40.0  # that the broker lets a message be unacknowledged
LIBRARY: Final = "faketime/libfaketimeMT.so.1"
CLOCK: Final = Path(__file__).with_name("clock")


class HastyRabbitMQ(RabbitMQ):
    """Closes channels whose messages are not acknowledged within `CONSUMER_SECONDS`, and looks every second."""

    def _environment(self) -> dict[str, str]:
        given = super()._environment()
        hasty = f" -rabbit consumer_timeout {int(CONSUMER_SECONDS * 1_000)} -rabbit channel_tick_interval 1000"
        name = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"
        return given | {name: given[name] + hasty}


class HostilePlant(Unaltered, Beats):
    """Its parts may be started by a wrong clock."""

    def __init__(self, *arguments: Any, **environment: Any) -> None:
        super().__init__(*arguments, **environment)
        self.clocks: dict[str, str] = {}  # by part, as libfaketime reads them: '+1d'

    def _environment(self, name: str) -> dict[str, str]:
        given = super()._environment(name)
        return given | wrong_clock(self.clocks[name]) if name in self.clocks else given


def wrong_clock(offset: str) -> dict[str, str]:
    """Variables for a process whose wall clock is wrong by that; its monotonic one is right."""
    library = next(Path("/usr/lib").glob(f"*/{LIBRARY}"), None) or next(Path("/usr").glob(f"*/{LIBRARY}"), None)
    if library is None:
        raise FileNotFoundError(f"{LIBRARY} is not installed: scripts/install-test-servers")
    python = {"PYTHONPATH": str(CLOCK), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, **python}


class Siege(World):
    """As the world of faults, with beat's rebuilds: what they find is told by their results."""

    plant: HostilePlant

    def __init__(self, place: Path, due_seconds: float = 20.0) -> None:
        """`due_seconds` lie between two due instants of each entry of the schedule."""
        super().__init__(place)
        self.due_seconds = due_seconds
        self.kills: Counter[str] = Counter()  # by the campaign, by the name of what was killed

    def kill(self, name: str) -> None:
        """SIGKILL to a part or a server; it is started again like all that ends."""
        self.kills[name] += 1
        self.signal(name, signal.SIGKILL)

    def restarted_by_itself(self) -> list[str]:
        """What was started again more often than it was killed."""
        return [f"{name} ended by itself {n} times" for name, n in (self.starts - self.kills).items()]

    def _rabbitmq(self, place: Path) -> RabbitMQ:
        return HastyRabbitMQ(place, policies=topology.POLICIES)

    def _prepare(self, sql: Plain) -> None:
        note_captured(sql)

    def _plant(self) -> HostilePlant:
        return HostilePlant(
            self.postgres.url,
            self.rabbitmq.url,
            self.place / "system",
            database_through=self.database_proxy.url(self.postgres.url),
            broker_through=self.broker_proxy.url(self.rabbitmq.url),
            **ENVIRONMENT | {"FAST_EVERY": str(self.due_seconds)},
        )
