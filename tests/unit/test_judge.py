"""Health blames what stands by itself, and not who waits for a server."""

from __future__ import annotations

import math

from backend.app.health.answer import Answer
from backend.app.health.inspector import Waiting
from backend.app.health.judge import Judge, Verdict
from backend.app.health.signs import FIRST_CANARY_SECONDS, Signs, StoredSigns
from backend.app.settings import Settings

PATIENCE = 10.0
STANDS = Answer(StoredSigns(version="9999", outbox_first=7, observed_seconds=1.0, canary_seconds=1.0))
AWAY: Answer[Waiting] = Answer(failure="connection refused")
THERE = Answer(Waiting(0, 0, None, consumers=1))


def kinds(judge: Judge, carried: Answer[Waiting], now: float) -> set[str]:
    return {one.kind for one in judge.judge(Signs(STANDS, carried), now).wrong}


def test_a_relay_that_stands_is_said_to_once_its_patience_is_over() -> None:
    judge = Judge(PATIENCE)
    assert kinds(judge, THERE, 0) == set()
    assert kinds(judge, THERE, PATIENCE - 1) == set()
    assert kinds(judge, THERE, PATIENCE) == {"relay_absent", "relay_stands"}


def test_while_the_broker_is_away_and_just_after_that_the_relay_is_not_blamed() -> None:
    judge = Judge(PATIENCE)
    for second in range(60):
        assert kinds(judge, AWAY, second) == {"broker_away"}
    assert kinds(judge, THERE, 60) == set()
    assert kinds(judge, THERE, 60 + PATIENCE - 1) == set()
    assert kinds(judge, THERE, 60 + PATIENCE) == {"relay_absent", "relay_stands"}


def test_says_when_to_look_again_for_what_is_about_to_have_stood_too_long() -> None:
    judge = Judge(PATIENCE)
    assert judge.seconds_until_overdue(0) == math.inf
    kinds(judge, THERE, 0)
    assert judge.seconds_until_overdue(PATIENCE - 1) == 1
    assert judge.seconds_until_overdue(PATIENCE) == math.inf, "it has been seen by then"


def test_a_first_canary_that_does_not_come_is_missed_where_workers_know_canaries() -> None:
    def missed(judge: Judge, knows: bool | None, now: float, seconds: float | None = None) -> bool:
        stored = StoredSigns(version="9999", relay_leads=True, observed_seconds=1.0, canary_seconds=seconds)
        carried = Answer(Waiting(0, 0, None, consumers=1, knows_canaries=knows))
        return "canary_absent" in {one.kind for one in judge.judge(Signs(Answer(stored), carried), now).wrong}

    patience = Settings().canary_seconds + FIRST_CANARY_SECONDS
    for knows, is_missed in ((True, True), (False, False), (None, False)):
        judge = Judge(PATIENCE)
        assert not any(missed(judge, knows, second) for second in range(int(patience) + 1))
        assert missed(judge, knows, patience + 1) is is_missed
        assert not missed(judge, knows, patience + 2, seconds=1.0), "it came"


def test_after_a_pause_of_the_observer_a_canary_is_unknown_until_it_could_have_come() -> None:
    def verdict(is_observed_for_long: bool) -> Verdict:
        stored = StoredSigns(
            "9999",
            relay_leads=True,
            observed_seconds=1.0,
            canary_seconds=600.0,
            is_observed_for_long=is_observed_for_long,
        )
        return Judge(PATIENCE).judge(Signs(Answer(stored), THERE), 0)

    assert verdict(False).wrong == ()
    assert verdict(False).state("freshness") == "unknown"
    assert [one.kind for one in verdict(True).wrong] == ["canary_absent"]
    assert verdict(True).state("freshness") == "bad"


def test_a_replica_is_not_blamed_while_the_primary_gives_no_answer_either() -> None:
    silent: Answer[StoredSigns] = Answer(failure="no answer in time")
    verdict = Judge(PATIENCE).judge(Signs(silent, THERE, Answer(failure="no answer in time")))
    assert [one.kind for one in verdict.wrong] == ["database_away"]
    assert verdict.state("reads") == "unknown"
    alone = Judge(PATIENCE).judge(Signs(STANDS, THERE, Answer(failure="no answer in time")))
    assert [one.kind for one in alone.wrong] == ["replica_away"]
