"""One question of many who ask at the time, as /metrics in a loop is."""

from __future__ import annotations

import asyncio

import pytest

from backend.app.api.probe import Shared
from tests.waiting import turn_of_the_loop


class Counted:
    """A question that says how often it was put before, and fails when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> int:
        self.asked += 1
        await self.may_end.wait()
        if self.fails:
            raise OSError("away")
        return self.asked


def test_all_who_ask_at_the_time_share_one_question_and_its_answer_is_kept() -> None:
    async def run() -> None:
        question = Counted()
        shared = Shared(question, 60)
        question.may_end.clear()
        asking = [asyncio.ensure_future(shared()) for _ in range(50)]
        await turn_of_the_loop()
        asking[0].cancel()  # whoever came first may go
        question.may_end.set()
        assert await asyncio.gather(*asking[1:]) == [1] * 49
        assert [await shared() for _ in range(50)] == [1] * 50

    asyncio.run(run())


def test_an_old_answer_and_a_failure_are_asked_anew() -> None:
    async def run() -> None:
        question = Counted()
        shared = Shared(question, 0)
        assert [await shared(), await shared()] == [1, 2]
        question.fails = True
        for _ in range(2):
            with pytest.raises(OSError, match="away"):
                await shared()
        assert question.asked == 4

    asyncio.run(run())
