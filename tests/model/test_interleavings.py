"""The product's own statements, in every order in which sessions can run them: the caches come out right."""

from __future__ import annotations

import pytest

from tests.model.mistakes import MISTAKES
from tests.model.scenarios import MEETINGS
from tests.model.stage import tried
from tests.servers import Databases

SHORT = [name for name, meeting in MEETINGS.items() if meeting.is_short]


@pytest.mark.parametrize("name", SHORT)
def test_comes_out_right_in_every_order(databases: Databases, name: str) -> None:
    explored = tried(databases, MEETINGS[name])

    assert explored.wrong == (), "\n".join(explored.trace)
    assert explored.interleavings > 1


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_caught(databases: Databases, name: str) -> None:
    mistake = MISTAKES[name]

    explored = tried(databases, MEETINGS[mistake.meeting], mistake)

    assert mistake.says in "\n".join(explored.wrong), f"{explored}"
