"""All interleavings of some sessions: each order in which their statements can be let go, one after the other.

An order is a list of choices. It is run from the same rows again for each of them, those with few changes of session
first, so that the first trace that breaks something is one of the easiest to read.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.model.sessions import Conductor, Killed, Session
from tests.plain import Plain

TRIES: Final = 5  # of an order whose sessions did not come to the same steps: the server's own work was in the way


class Choice(NamedTuple):
    """What happens next: this session's step, or its death there."""

    session: int
    dies: bool = False


@dataclass(frozen=True)
class Scenario:
    """Sessions, the state they begin with, and what must hold."""

    sessions: Callable[[], Sequence[Session]]
    reset: Callable[[], None]  # to the rows that all orders begin with
    agreement: Callable[[], list[str]]  # what is wrong in a committed state
    quiet: Callable[[], list[str]]  # lets what waits arrive; what is wrong then


@dataclass(frozen=True)
class Ran:
    """One order."""

    trace: Sequence[str]  # 'session: step'
    choices: Sequence[Choice]
    others: Sequence[Sequence[Choice]]  # what could have been chosen instead, at each place
    wrong: Sequence[str]


@dataclass
class Explored:
    """What came of all orders, or of those up to the first wrong one."""

    interleavings: int = 0
    steps: int = 0
    wrong: Sequence[str] = ()
    trace: Sequence[str] = ()


@dataclass(order=True)
class _Waiting:
    switches: int
    number: int
    choices: Sequence[Choice] = field(compare=False)


class NotRepeatable(Exception):
    """The same choices did not lead to the same steps."""


def explore(scenario: Scenario, watcher: Plain) -> Explored:
    """Run every order; stops at the first in which something is wrong."""
    explored, numbers = Explored(), itertools.count()
    waiting = [_Waiting(0, next(numbers), ())]
    while waiting:
        first = heapq.heappop(waiting).choices
        ran = _repeatable(scenario, first, watcher)
        explored.interleavings += 1
        explored.steps += len(ran.trace)
        if ran.wrong:
            explored.wrong, explored.trace = ran.wrong, ran.trace
            return explored
        for choices in _branches(ran, len(first)):
            heapq.heappush(waiting, _Waiting(_switches(choices), next(numbers), choices))
    return explored


def _branches(ran: Ran, begin: int) -> Iterator[Sequence[Choice]]:
    for place in range(begin, len(ran.choices)):
        for other in ran.others[place]:
            yield [*ran.choices[:place], other]


def _switches(choices: Sequence[Choice]) -> int:
    return sum(before.session != after.session for before, after in itertools.pairwise(choices))


def _repeatable(scenario: Scenario, choices: Sequence[Choice], watcher: Plain) -> Ran:
    for tries_left in reversed(range(TRIES)):
        try:
            return run(scenario, choices, watcher)
        except NotRepeatable:
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def run(scenario: Scenario, choices: Sequence[Choice], watcher: Plain) -> Ran:
    """One order: these choices, then always the same session for as long as it can go."""
    scenario.reset()
    sessions = scenario.sessions()
    conductor = Conductor(sessions, watcher)
    conductor.start()
    ran = _Running(scenario, sessions, conductor)
    for choice in choices:
        if choice not in ran.open():
            ran.give_up()
            raise NotRepeatable(f"{choice} after {ran.trace}")
        ran.take(choice)
    while following := ran.open():
        ran.take(next((one for one in following if ran.choices and one == ran.choices[-1]), following[0]))
    failures = [f"{one.name} fails: {one.failure}" for one in sessions if one.failure and not one.is_killed]
    return Ran(ran.trace, ran.choices, ran.others, [*ran.wrong, *failures] or scenario.quiet())


class _Running:
    def __init__(self, scenario: Scenario, sessions: Sequence[Session], conductor: Conductor) -> None:
        self._scenario, self._sessions, self._conductor = scenario, sessions, conductor
        self.trace: list[str] = []
        self.choices: list[Choice] = []
        self.others: list[list[Choice]] = []
        self.wrong: list[str] = []

    def open(self) -> list[Choice]:
        waiting = [(number, one) for number, one in enumerate(self._sessions) if one.state == "waits"]
        deaths = [Choice(number, True) for number, one in waiting if one.may_die]
        return [*(Choice(number) for number, _ in waiting), *deaths]

    def take(self, choice: Choice) -> None:
        session = self._sessions[choice.session]
        self.others.append([other for other in self.open() if other != choice])
        self.choices.append(choice)
        step = session.step
        self.trace.append(f"{session.name}: {'dies before ' if choice.dies else ''}{step}")
        self._conductor.go(session, choice.dies)
        if step == "commit" and not self.wrong:
            self.wrong = self._scenario.agreement()

    def give_up(self) -> None:
        while waiting := [one for one in self._sessions if one.state == "waits"]:
            self._conductor.go(waiting[0], dies=True)


__all__ = ["Choice", "Explored", "Killed", "NotRepeatable", "Scenario", "explore", "run"]
