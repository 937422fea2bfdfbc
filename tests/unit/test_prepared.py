"""Statements that are run often are planned once in a while, and what fails is not taken for planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from events import prepared
from events.prepared import KEPT_SECONDS, Prepared

ASKED = "SELECT name FROM things WHERE id = %(id)s AND note LIKE '%%x' AND id <> %(other)s OR id = %(id)s"
PARAMETERS = {"id": 1, "other": 2}
PREPARE = "PREPARE {} AS SELECT name FROM things WHERE id = $1 AND note LIKE '%%x' AND id <> $2 OR id = $1"
RUN = "SET LOCAL plan_cache_mode = force_generic_plan; EXECUTE {} (%(id)s, %(other)s)"


class Session:
    """Takes down what it is asked; fails at what it is told to."""

    def __init__(self) -> None:
        self.now, self.asked = 100.0, list[str]()
        self.failing = ""

    def execute(self, statement: str, parameters: Mapping[str, Any]) -> None:
        assert parameters == PARAMETERS
        if self.failing and self.failing in statement:
            raise ValueError(statement)
        self.asked.append(statement)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session()
    monkeypatch.setattr(prepared.time, "monotonic", lambda: session.now)
    return session


def run(session: Session, statements: Prepared, after: float) -> list[str]:
    """What the session is asked for one more run, so many seconds after the last."""
    session.now += after
    session.asked.clear()
    statements.run(session.execute, ASKED, PARAMETERS)
    return list(session.asked)


def test_a_statement_is_planned_when_it_is_run_again_and_anew_when_its_plan_is_old(session: Session) -> None:
    statements = Prepared()
    assert run(session, statements, 0) == [ASKED]
    assert run(session, statements, KEPT_SECONDS / 2) == [PREPARE.format("often_1"), RUN.format("often_1")]
    assert run(session, statements, KEPT_SECONDS / 2) == [RUN.format("often_1")]
    again = [f"DEALLOCATE often_1; {PREPARE.format('often_2')}", RUN.format("often_2")]
    assert run(session, statements, KEPT_SECONDS / 2) == again


def test_one_that_is_run_seldom_is_run_as_it_stands(session: Session) -> None:
    statements = Prepared()
    assert [run(session, statements, KEPT_SECONDS) for _ in range(3)] == [[ASKED]] * 3


@pytest.mark.parametrize(
    ("failing", "next_time"),
    [("PREPARE", [PREPARE.format("often_2"), RUN.format("often_2")]), ("EXECUTE", [RUN.format("often_1")])],
)
def test_one_that_could_not_be_planned_has_another_name_next_time_and_one_that_could_not_run_keeps_its_plan(
    session: Session, failing: str, next_time: list[str]
) -> None:
    statements = Prepared()
    run(session, statements, 0)
    session.failing = failing
    with pytest.raises(ValueError, match=failing):
        run(session, statements, 0.1)
    session.failing = ""
    assert run(session, statements, 0.1) == next_time
