"""How the console judges the stations on the way of an event, from what database and broker said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backend.app.api.probe import Answer
from backend.app.console.readings import Carried, Stored
from backend.app.console.state import Canary
from backend.app.console.stations import SENTENCES, Look, Station, culprit, judge
from backend.app.console.trend import Rates, Trend

STORED = Stored(
    last_id=100, first_waiting=101, outbox_rows=0, outbox_seconds=None, relay_leads=True, wide_companies=0,
    wide_seconds=None, applied=50, changed=40, changed_seconds=1.0, canary_ms=8.0, canary_seconds=2.0,
)  # fmt: skip
CARRIED = Carried(True, 0, 1, ("one@here",), 0, None, None)
AWAY: Answer[Stored] = Answer(failure="connection refused")
NO_BROKER: Answer[Carried] = Answer(failure="no route")


def at(seconds_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()


def look(stored: Stored | None = STORED, carried: Carried | None = CARRIED, **rates: float) -> Look:
    return Look(Answer(stored) if stored else AWAY, Answer(carried) if carried else NO_BROKER, Rates(**rates))


def states(seen: Look) -> dict[str, str]:
    return {station.name: station.state for station in judge(seen)}


def named(seen: Look) -> tuple[str, str] | None:
    """Name and reason of the station that is to blame."""
    guilty = culprit(judge(seen))
    return (guilty.name, guilty.code) if guilty else None


def test_all_is_well_when_all_is_well() -> None:
    assert set(states(look()).values()) == {"ok"}
    assert list(states(look())) == ["writers", "outbox", "relay", "queue", "worker", "caches"]
    assert named(look()) is None


waiting = replace(STORED, outbox_rows=9, outbox_seconds=5.0)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (look(stored=None), ("writers", "database_away")),
        (look(stored=None, carried=None), ("writers", "database_away")),
        (look(carried=None), ("relay", "broker_away")),
        (look(stored=replace(waiting, relay_leads=False)), ("relay", "relay_missing")),
        (look(stored=waiting, unmoved_seconds=5.0), ("relay", "relay_stands")),
        (look(carried=replace(CARRIED, queue_exists=False, consumers=0)), ("queue", "queue_missing")),
        (look(carried=replace(CARRIED, consumers=0, workers=())), ("worker", "worker_missing")),
        (look(carried=replace(CARRIED, workers=()), silent_seconds=4.0), ("worker", "worker_silent")),
        (
            look(replace(STORED, applied=0), replace(CARRIED, held=3, oldest_held=at(20))),
            ("worker", "worker_stands"),
        ),
        (replace(look(), late_seconds=14.0), ("caches", "canary_absent")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_blames_the_first_station_that_stands(seen: Look, expected: tuple[str, str]) -> None:
    assert named(seen) == expected


def test_never_blames_a_backlog_that_moves() -> None:
    behind = look(replace(STORED, outbox_rows=90_000, outbox_seconds=30.0), replace(CARRIED, ready=50), published=9_000)

    assert named(behind) is None
    assert states(behind)["outbox"] == "slow"


def test_blames_a_backlog_that_moves_once_the_canary_is_late() -> None:
    behind = look(replace(STORED, outbox_rows=90_000, outbox_seconds=30.0), published=9_000)

    assert named(replace(behind, late_seconds=14.0)) == ("outbox", "outbox_waits")


def test_forgives_one_silent_look_at_a_worker() -> None:
    assert named(look(carried=replace(CARRIED, workers=()), silent_seconds=1.0)) is None


def test_says_when_some_of_the_workers_are_silent() -> None:
    partly = judge(look(carried=replace(CARRIED, consumers=3)))[4]

    assert (partly.state, partly.as_dict()["why"]) == ("slow", "2 of 3 workers do not answer.")


def test_calls_unknown_what_cannot_be_asked() -> None:
    assert states(look(carried=None)) == {
        "writers": "ok", "outbox": "ok", "relay": "standing", "queue": "unknown", "worker": "unknown", "caches": "ok",
    }  # fmt: skip
    without_database = states(look(stored=None))
    assert [name for name, state in without_database.items() if state == "unknown"] == ["outbox", "relay", "caches"]


def test_knows_that_there_is_no_broker_in_process() -> None:
    alone = judge(Look(Answer(STORED), Answer(), Rates()))

    assert {station.state for station in alone} == {"ok"}
    assert [station.code for station in alone if station.code != "ok"] == ["in_process", "in_process"]


def test_has_a_sentence_for_every_reason() -> None:
    values = {"failure": "f", "seconds": 3.0, "missing": 1, "consumers": 2, "companies": 4}
    for code in SENTENCES:
        assert "{" not in Station("relay", "ok", code, values).as_dict()["why"]


class TestTrend:
    def test_takes_rates_from_how_far_ids_came(self) -> None:
        trend = Trend()
        trend.take(0.0, replace(STORED, last_id=100, first_waiting=90, outbox_rows=11), CARRIED)
        rates = trend.take(2.0, replace(STORED, last_id=300, first_waiting=150, outbox_rows=151), CARRIED)

        assert (rates.captured, rates.published) == (100.0, 30.0)

    def test_counts_the_seconds_in_which_nothing_moved(self) -> None:
        trend, stuck = Trend(), replace(STORED, first_waiting=90, outbox_rows=11, outbox_seconds=1.0)
        for now in (0.0, 1.0, 4.0):
            rates = trend.take(now, stuck, CARRIED)

        assert rates.unmoved_seconds == 4.0
        assert trend.take(5.0, replace(stuck, first_waiting=95), CARRIED).unmoved_seconds == 0.0

    def test_counts_the_seconds_in_which_no_worker_answered(self) -> None:
        trend, silent = Trend(), replace(CARRIED, workers=())
        trend.take(0.0, STORED, CARRIED)

        assert trend.take(4.0, STORED, silent).silent_seconds == 4.0
        assert trend.take(5.0, STORED, replace(silent, consumers=0)).silent_seconds == 0.0

    def test_begins_anew_when_the_sequence_was_set_back(self) -> None:
        trend = Trend()
        trend.take(0.0, STORED, CARRIED)

        assert trend.take(1.0, replace(STORED, last_id=1, first_waiting=2), CARRIED).captured == 0.0


class TestCanary:
    def state(self, ms: float | None, age: float | None, up: float = 900, blocked: bool = False) -> str:
        return Canary.told(ms, age, up).state(blocked)

    def test_is_absent_once_it_is_overdue(self) -> None:
        assert self.state(8.0, 14.0) == "absent"

    def test_is_absent_at_once_where_none_can_come(self) -> None:
        assert self.state(8.0, 6.0, blocked=True) == "absent"

    def test_is_well_while_it_comes_as_it_should(self) -> None:
        assert self.state(8.0, 10.5) == "ok"

    def test_gives_a_new_process_time(self) -> None:
        assert self.state(8.0, 3_600, up=2) == "ok"
        assert self.state(None, None, up=2) == "unknown"
        assert self.state(None, None, up=14) == "absent"

    def test_is_slow_before_it_is_absent(self) -> None:
        assert self.state(2_500.0, 3.0) == "slow"
