"""A look at the signs of health ends in time, and what fails in one of its questions is told of that part alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend.app.database import replica
from backend.app.health import reach, signs
from backend.app.health.inspector import Waiting
from backend.app.health.judge import Judge
from backend.app.health.signs import Looker, StoredSigns
from tests.conftest import configured_as

SECONDS = 1.0
ANSWERS: dict[tuple[Any, str], Any] = {
    (signs, "stored"): StoredSigns("9999", relay_leads=True, observed_seconds=1.0, canary_seconds=1.0),
    (signs, "carried"): Waiting(0, 0, None, consumers=1),
    (replica, "look"): None,
    (reach, "look"): reach.Reach("table"),
}
Answering = Callable[[tuple[Any, str], Callable[[], Any]], None]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """All answer well; each can be given another answer."""

    def answering(question: tuple[Any, str], answer: Callable[[], Any]) -> None:
        monkeypatch.setattr(*question, answer)

    for question, answer in ANSWERS.items():
        answering(question, lambda answer=answer: answer)
    with configured_as(monkeypatch, CELERY_BROKER_URL="amqp://a:b@localhost//", DATABASE_READ_URL=""):
        yield answering


def fails() -> None:
    raise RuntimeError


def test_a_look_at_the_log_that_fails_is_told_and_the_next_look_judges_on(answering: Answering) -> None:
    looker = Looker(SECONDS)
    answering((reach, "look"), fails)
    assert Judge().judge(looker.look()).state("log") == "unknown"

    answering((reach, "look"), lambda: reach.Reach("table"))
    assert Judge().judge(looker.look()).state("log") == "well"


@pytest.mark.parametrize(("question", "part"), [((signs, "carried"), "broker"), ((replica, "look"), "reads")])
def test_what_fails_in_one_question_is_that_parts_failure_and_the_rest_is_judged(
    answering: Answering, question: tuple[Any, str], part: str
) -> None:
    answering(question, fails)
    verdict = Judge().judge(Looker(SECONDS).look())
    assert (verdict.state(part), verdict.state("database"), verdict.state("caches")) == ("bad", "well", "well")


def test_questions_that_all_hang_have_one_deadline(answering: Answering) -> None:
    released = threading.Event()
    for question in ANSWERS:
        answering(question, released.wait)
    began = time.monotonic()
    looked = Looker(SECONDS).look()
    took = time.monotonic() - began
    released.set()
    assert {told.failure for told in (looked.stored, looked.carried, looked.replica, looked.log) if told} == {
        "no answer in time"
    }
    assert took < 2 * SECONDS
