"""Work that is done once for all who came before it began."""

from __future__ import annotations

import asyncio

import pytest

from backend.app.api.reading.memory import Memory
from backend.app.api.reading.rounds import Rounds
from tests.waiting import turn_of_the_loop


class Work:
    """Rounds that end when they are told to; each returns its number."""

    def __init__(self) -> None:
        self.begun = 0
        self.ends: list[asyncio.Future[None]] = []

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.ends.append(asyncio.get_running_loop().create_future())
        await self.ends[-1]
        return number


async def settled() -> None:
    for _ in range(10):
        await turn_of_the_loop()


async def no_rest() -> None:
    """The next round begins at once."""


async def begun(rounds: Rounds[int]) -> asyncio.Task[int]:
    """Somebody who waits for a round."""
    task = asyncio.create_task(rounds())
    await settled()
    return task


def test_whoever_comes_while_a_round_goes_on_shares_the_next_one() -> None:
    async def scene() -> None:
        work = Work()
        rounds = Rounds(work, no_rest)
        first = await begun(rounds)
        later = [asyncio.create_task(rounds()) for _ in range(3)]
        await settled()
        assert work.begun == 1
        work.ends[0].set_result(None)
        await settled()
        assert (first.result(), work.begun) == (1, 2)
        work.ends[1].set_result(None)
        assert [await one for one in later] == [2, 2, 2]

    asyncio.run(scene())


def test_those_who_were_answered_and_ask_again_share_the_round_of_those_who_waited_meanwhile() -> None:
    async def scene() -> None:
        work, rested = Work(), asyncio.Event()
        rounds = Rounds(work, rested.wait)
        first = await begun(rounds)
        later = asyncio.create_task(rounds())
        await settled()
        work.ends[0].set_result(None)
        await settled()
        assert first.done()
        again = asyncio.create_task(rounds())
        await settled()
        assert work.begun == 1
        rested.set()
        await settled()
        work.ends[1].set_result(None)
        assert [await later, await again, work.begun] == [2, 2, 2]

    asyncio.run(scene())


def test_all_who_come_before_it_begins_share_the_first_one() -> None:
    async def scene() -> None:
        work = Work()
        rounds = Rounds(work, no_rest)
        crowd = [asyncio.create_task(rounds()) for _ in range(5)]
        await settled()
        work.ends[0].set_result(None)
        assert [await one for one in crowd] == [1] * 5

    asyncio.run(scene())


def test_whoever_stops_waiting_takes_nothing_from_the_others() -> None:
    async def scene() -> None:
        work = Work()
        rounds = Rounds(work, no_rest)
        one, other = asyncio.create_task(rounds()), asyncio.create_task(rounds())
        await settled()
        one.cancel()
        await settled()
        work.ends[0].set_result(None)
        assert await other == 1

    asyncio.run(scene())


def test_a_round_that_fails_fails_for_its_own_and_the_next_one_begins() -> None:
    async def scene() -> None:
        work = Work()
        rounds = Rounds(work, no_rest)
        first = await begun(rounds)
        second = asyncio.create_task(rounds())
        work.ends[0].set_exception(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await first
        await settled()
        work.ends[1].set_result(None)
        assert await second == 2

    asyncio.run(scene())


def test_a_loop_that_is_gone_holds_up_nobody() -> None:
    work = Work()
    rounds = Rounds(work, no_rest)

    async def left() -> None:
        task = await begun(rounds)
        task.cancel()

    async def scene() -> None:
        task = await begun(rounds)
        work.ends[-1].set_result(None)
        assert await task == 2

    asyncio.run(left())
    asyncio.run(scene())


def test_the_least_lately_used_is_forgotten_first() -> None:
    memory = Memory[str](most=2, most_bytes=1_000)
    for name in ("a", "b"):
        memory.keep(name, name, 1)
    memory.get("a")
    memory.keep("c", "c", 1)
    assert [memory.get(name) for name in ("a", "b", "c")] == ["a", None, "c"]


def test_bytes_are_bounded_also_where_answers_grow() -> None:
    memory, values = Memory[list[str]](most=100, most_bytes=100), {name: [name] for name in "abcdef"}
    for name, value in values.items():
        memory.keep(name, value, 20)
    assert len(memory) == 5
    memory.weigh("f", values["f"], 25)
    assert len(memory) == 4
    memory.weigh("f", ["another"], 25)  # that is not remembered
    assert len(memory) == 4
    memory.keep("large", ["large"], 90)
    assert (memory.get("large"), len(memory)) == (None, 4)
