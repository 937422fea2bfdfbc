"""A good change a few times a second, and how long each took from its commit to the cache."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from tests.background import background
from tests.plain import Plain
from tests.waiting import until

EVERY: Final = 0.3  # seconds between two
LOOK_EVERY: Final = 0.01
PROBE_SECONDS: Final = 30.0  # for the last ones
PUT: Final = (
    "INSERT INTO companies (name, city_id) SELECT 'probe', min(id) FROM cities WHERE name = 'first' RETURNING id"
)
SEEN: Final = "SELECT company_id FROM company_city_mapping WHERE company_id = ANY(%s)"
Span = tuple[float, float]  # monotonic seconds


@dataclass
class Probes:
    """Written by one thread at its pace, whatever becomes of them; looked for by another."""

    waiting: dict[int, float] = field(default_factory=dict)  # when each was committed, monotonic
    spans: list[Span] = field(default_factory=list)  # commit to cache

    def write(self, plain: Plain, stop: threading.Event) -> None:
        """Until stopped."""
        while not stop.wait(EVERY):
            company = plain.one(PUT)
            self.waiting[company] = time.monotonic()

    def look(self, plain: Plain, stop: threading.Event) -> None:
        """Until stopped."""
        while not stop.wait(LOOK_EVERY):
            if waiting := list(self.waiting):
                for company in plain.column(SEEN, [waiting]):
                    self.spans.append((self.waiting.pop(company), time.monotonic()))

    def freshness(self, but: Sequence[Span] = ()) -> Freshness:
        """Of all, or of those that touch none of these times."""
        counted = [end - begin for begin, end in self.spans if not any(begin < to and since < end for since, to in but)]
        return Freshness(len(counted), *(_quantile(counted, share) for share in (0.5, 0.99, 1.0)))


@dataclass(frozen=True)
class Freshness:
    """Seconds from commit to cache."""

    number: int
    median: float
    p99: float
    longest: float

    def __str__(self) -> str:
        return f"{self.number} probes: median {self.median:.3f} s, p99 {self.p99:.3f} s, longest {self.longest:.3f} s"


NONE: Final = Freshness(0, 0.0, 0.0, 0.0)


@contextmanager
def probed(connect: Callable[[], Plain]) -> Iterator[Probes]:
    """Probes while this lasts; at the end the last ones are waited for."""
    probes = Probes()
    with connect() as reader, connect() as writer:

        def look(stop: threading.Event) -> None:
            probes.look(reader, stop)

        def write(stop: threading.Event) -> None:
            probes.write(writer, stop)

        with background(look):
            with background(write):
                yield probes
            with suppress(AssertionError):  # whoever judges counts those that still wait
                until(lambda: not probes.waiting, PROBE_SECONDS)


def _quantile(seconds: list[float], share: float) -> float:
    if len(seconds) < 2:
        return max(seconds, default=0.0)
    return (
        max(seconds)
        if share >= 1
        else statistics.quantiles(seconds, n=1_000, method="inclusive")[int(share * 1_000) - 1]
    )
