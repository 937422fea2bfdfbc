"""One poller serves all clients, asks only while somebody looks, and waits for nobody."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from backend.app.console import audience, cities, poller, state
from backend.app.console.poller import Poller
from backend.app.console.question import Question
from backend.app.errors import DatabaseAway
from backend.app.health import incidents, signs
from backend.app.settings import settings
from tests.integration.test_console_stations import CARRIED, STORED, WELL
from tests.waiting import eventually

Row = tuple[int, str, float, float, int, int, int]


class Facts:
    """What database and broker would say, and how often they were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.delta = cities.Delta()
        self.stored = self._question("stored", STORED)
        self.runs = self._question("runs", {"active": [], "recent": []})
        self.slow = self._question("slow", state.Sections(findings=[]))
        self.signs = self._question("signs", WELL)
        self.waiting = self._question("waiting", CARRIED)

    def look(self) -> cities.Delta:
        told, self.delta = self.delta, cities.Delta()
        return told

    def _question(self, name: str, answer: Any) -> Any:
        def ask(*_: Any) -> Any:
            self.asked.append(name)
            return answer

        return ask


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Facts]:
    known = Facts()
    monkeypatch.setattr(poller, "stored", lambda: known.stored())
    monkeypatch.setattr(signs, "stored", lambda: known.signs())
    monkeypatch.setattr(signs, "carried", lambda: known.waiting())
    monkeypatch.setattr(incidents, "overview", lambda: incidents.Overview([], None))
    monkeypatch.setattr(state, "runs", lambda: known.runs())
    monkeypatch.setattr(state, "slow_sections", lambda: known.slow())
    monkeypatch.setattr(cities, "CityDeltas", lambda: known)
    monkeypatch.setattr(poller, "STATE_SECONDS", 0.05)
    monkeypatch.setattr(poller, "CITIES_SECONDS", 0.05)
    monkeypatch.setattr(poller, "ASK_SECONDS", 0.3)
    settings.cache_clear()
    yield known
    settings.cache_clear()


def parsed(message: str) -> tuple[str, Any]:
    lines = dict(line.split(": ", 1) for line in message.strip().splitlines())
    return lines["event"], json.loads(lines["data"])


async def hear(stream: AsyncIterator[str], name: str, seconds: float = 3) -> Any:
    """The data of the next event of this name."""
    async with asyncio.timeout(seconds):
        async for message in stream:
            if not message.startswith("event"):
                continue
            event, data = parsed(message)
            if event == name:
                return data
    raise AssertionError(f"the stream ended before {name}")


def test_asks_once_for_all_clients(facts: Facts) -> None:
    async def scene() -> None:
        one = Poller()
        streams = [one.stream(f"caller {number}") for number in range(20)]
        for stream in streams:
            assert (await hear(stream, "state"))["pipeline"]["state"] == "ok"
        before = len(facts.asked)
        for stream in streams * 10:
            await hear(stream, "state")
        assert 10 <= facts.asked[before:].count("stored") <= 11
        one.stop()

    asyncio.run(scene())


def test_tells_only_what_changed(facts: Facts) -> None:
    async def scene() -> None:
        one = Poller()
        stream = one.stream("caller")
        assert {"pipeline", "stations", "setup"} <= set(await hear(stream, "state"))
        await hear(stream, "state")
        assert set(await hear(stream, "state")) <= {"at", "freshness", "stations", "health"}
        one.stop()

    asyncio.run(scene())


def test_greets_a_late_client_with_everything(facts: Facts) -> None:
    async def scene() -> None:
        one = Poller()
        await hear(one.stream("caller"), "state")
        assert "setup" in await hear(one.stream("caller"), "state")
        one.stop()

    asyncio.run(scene())


def test_passes_on_what_changed_of_the_cities(facts: Facts) -> None:
    async def scene() -> None:
        one = Poller()
        stream = one.stream("caller")
        await hear(stream, "state")
        facts.delta = cities.Delta([(7, "Here", 1.0, 2.0, 3, 4, 5)], [9])
        assert await hear(stream, "cities") == {"rows": [[7, "Here", 1.0, 2.0, 3, 4, 5]], "removed": [9]}
        one.stop()

    asyncio.run(scene())


def test_a_turn_ends_when_it_is_told_to_also_at_the_moment_its_answer_comes(facts: Facts) -> None:
    answers: list[threading.Event] = []

    def ask() -> str:
        answers.append(threading.Event())
        answers[-1].wait(10)
        return "answer"

    async def scene() -> None:
        one = Poller()
        question: Question[str] = Question(ask)

        async def turn() -> None:
            await question(5)

        for _ in range(20):
            asked = len(answers)
            repeated = asyncio.create_task(one._repeat(0.01, turn))
            await eventually(lambda asked=asked: len(answers) > asked)
            answers[-1].set()
            for thread in [thread for thread in threading.enumerate() if thread.name == "console ask"]:
                thread.join(5)  # the loop is held meanwhile: answer and end are taken in one turn of it
            asyncio.get_running_loop().call_soon(repeated.cancel)
            await eventually(repeated.done, 1, "the turn ends")

    asyncio.run(scene())


def test_names_a_database_that_hangs_and_starts_no_second_question_beside_it(facts: Facts) -> None:
    hangs, waits = threading.Event(), []

    def stored() -> Any:
        waits.append(threading.get_ident())
        hangs.wait(10)
        return STORED

    facts.stored = facts.signs = stored

    async def scene() -> None:
        one = Poller()
        began = time.monotonic()
        told = await one.current()
        assert time.monotonic() - began < 1
        assert told["pipeline"] | {"values": None} == {
            "state": "standing", "station": "database", "code": "database_away", "values": None,
            "why": "Nothing can be read or written, and no event is applied: no answer in time.",
        }  # fmt: skip
        assert told["health"]["state"] == "bad"
        assert (told["changed_seconds"], told["freshness"]["events"]) == (None, None)
        assert told["unknown_since"] is not None
        turns = facts.asked.count("runs")
        await eventually(lambda: facts.asked.count("runs") > turns + 1)
        assert len(waits) == 2  # for the stations, and for health
        hangs.set()
        assert (await hear(one.stream("caller"), "state"))["pipeline"]
        one.stop()

    asyncio.run(scene())


def test_goes_on_after_a_failure(facts: Facts) -> None:
    def fails() -> Any:
        raise DatabaseAway("gone")

    async def scene() -> None:
        one = Poller()
        stream = one.stream("caller")
        assert (await hear(stream, "state"))["pipeline"]["state"] == "ok"
        working, facts.stored, facts.signs = (facts.stored, facts.signs), fails, fails
        assert (await hear(stream, "state"))["pipeline"]["code"] == "database_away"
        facts.stored, facts.signs = working
        while (await hear(stream, "state")).get("pipeline", {}).get("state") != "ok":
            pass
        one.stop()

    asyncio.run(scene())


def test_rests_when_nobody_looks(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "LINGER_SECONDS", 0.1)

    async def scene() -> None:
        one = Poller()
        await one.current()
        await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()}, what="nothing runs any more")
        before = len(facts.asked)
        assert (await one.current())["pipeline"]["state"] == "ok"
        assert len(facts.asked) > before
        one.stop()

    asyncio.run(scene())


def test_whoever_comes_back_while_it_goes_to_rest_hears_of_everything(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turns are of different lengths: the shortest rests first."""
    monkeypatch.setattr(poller, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(poller, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(poller, "CITIES_SECONDS", 0.7)
    monkeypatch.setattr(poller, "WAITING_SECONDS", 0.7)

    async def scene() -> None:
        one = Poller()
        for left in (5, 4, 3, 2, 1):  # tasks that still run: this one, the poller, and its turns
            stream = one.stream("caller")
            for _ in range(3):
                await hear(stream, "state")
            await stream.aclose()
            await eventually(lambda left=left: len(asyncio.all_tasks()) <= left)
        one.stop()

    asyncio.run(scene())


def test_lets_go_of_a_client_that_does_not_keep_up() -> None:
    async def scene() -> None:
        crowd = audience.Audience()
        slow, quick = crowd.join("slow"), crowd.join("quick")
        for number in range(audience.BACKLOG + 1):
            crowd.send(audience.event("state", number))
            assert await anext(quick) == audience.event("state", number)
        assert [message async for message in slow] == []
        assert len(crowd) == 1

    asyncio.run(scene())


def test_takes_so_many_clients_and_no_more() -> None:
    async def scene() -> None:
        crowd = audience.Audience()
        for number in range(audience.MOST):
            crowd.join(f"caller {number // audience.EACH}")
        with pytest.raises(audience.Full):
            crowd.join("another one")

    asyncio.run(scene())


def test_one_caller_has_a_part_of_all_places_and_gets_it_back() -> None:
    async def scene() -> None:
        crowd = audience.Audience()
        for _ in range(audience.EACH):
            crowd.join("one")
        with pytest.raises(audience.Full):
            crowd.join("one")
        another = crowd.join("another", "hello")
        assert await anext(another) == "hello"
        crowd.close()
        assert crowd.join("one")

    asyncio.run(scene())


def test_a_question_answers_in_time_or_says_that_it_did_not() -> None:
    async def scene() -> None:
        gate, answers = threading.Event(), iter(["too late", "fresh"])
        slow = Question(lambda: gate.wait(5) and next(answers))
        assert (await slow(0.05)).failure == "no answer in time"
        asking = [thread for thread in threading.enumerate() if thread.name.startswith("console ")]
        gate.set()
        await eventually(lambda: not any(thread.is_alive() for thread in asking))
        assert (await slow(1)).value == "fresh"

    asyncio.run(scene())
