"""One caller's part of the threads."""

from __future__ import annotations

import asyncio

import pytest

from backend.app.api.edge.turns import AT_ONCE, Turns
from backend.app.errors import Away
from tests.waiting import turn_of_the_loop


def test_one_caller_waits_for_itself_and_not_for_others() -> None:
    async def scene() -> None:
        turns, gate, inside = Turns(), asyncio.Event(), list[str]()

        async def request(caller: str) -> None:
            async with turns.of(caller):
                inside.append(caller)
                await gate.wait()

        crowd = [asyncio.create_task(request("one")) for _ in range(3 * AT_ONCE)]
        crowd.append(asyncio.create_task(request("another")))
        await turn_of_the_loop()
        await turn_of_the_loop()
        assert (inside.count("one"), inside.count("another")) == (AT_ONCE, 1)
        gate.set()
        await asyncio.gather(*crowd)
        assert inside.count("one") == 3 * AT_ONCE
        assert not turns._turns, "callers are forgotten"

    asyncio.run(scene())


def test_nobody_waits_for_a_turn_longer_than_for_an_answer() -> None:
    async def scene() -> None:
        turns = Turns(at_once=1, seconds=0.05)
        async with turns.of("one"):
            with pytest.raises(Away, match="no turn in time"):
                async with asyncio.timeout(5):
                    await turns.of("one").__aenter__()
        async with turns.of("one"):
            pass
        assert not turns._turns, "callers are forgotten"

    asyncio.run(scene())
