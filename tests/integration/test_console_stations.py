"""How the console shows the stations on the way of an event: what was measured, and what the judge of health says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backend.app.console.readings import Stored
from backend.app.console.state import LastCanary
from backend.app.console.stations import PLACES, SENTENCES, Look, Station, culprit, way
from backend.app.console.trend import Rates, Trend
from backend.app.console.verdict import Health
from backend.app.health import signs
from backend.app.health.answer import Answer
from backend.app.health.incidents import Incident, Overview
from backend.app.health.inspector import Waiting
from backend.app.health.judge import Wrong
from backend.app.health.kinds import KINDS
from backend.app.health.signs import Scheduled, Signs
from backend.app.settings import settings

STORED = Stored(
    last_id=100, first_waiting=101, outbox_rows=0, outbox_seconds=None, relay_leads=True, wide_companies=0,
    wide_seconds=None, applied=50, changed=40, changed_seconds=1.0, canary_ms=8.0, canary_seconds=2.0,
)  # fmt: skip
CARRIED = Waiting(0, 0, None, ("one@here",), consumers=1)
AWAY: Answer[Stored] = Answer(failure="connection refused")
NO_BROKER: Answer[Waiting] = Answer(failure="no route")
VALUES = {
    "failure": "f", "version": "1", "wanted": "2", "table": "t", "column": "c", "state": "lack", "messages": 3,
    "silent": 1, "sentence": "no rights.", "companies": 4, "p99_ms": 9, "rows": 3, "letters": 35,
    "task": "refresh_all_caches", "error": "boom",
}  # fmt: skip


def at(seconds_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()


def look(stored: Stored | None = STORED, carried: Waiting | None = CARRIED, *kinds: str) -> Look:
    wrong = tuple(Wrong(kind, "", VALUES, 7.0) for kind in kinds)
    return Look(Answer(stored) if stored else AWAY, Answer(carried) if carried else NO_BROKER, Rates(5.0, 5.0), wrong)


def states(seen: Look) -> dict[str, str]:
    return {station.name: station.state for station in way(seen)}


def named(seen: Look) -> tuple[str, str] | None:
    """Name and reason of what is to blame."""
    guilty = culprit(seen)
    return (guilty.name, guilty.code) if guilty else None


def test_all_is_well_when_all_is_well() -> None:
    assert set(states(look()).values()) == {"ok"}
    assert list(states(look())) == ["writers", "outbox", "relay", "queue", "worker", "caches"]
    assert named(look()) is None


@pytest.mark.parametrize(("kind", "place"), PLACES.items())
def test_shows_what_the_judge_of_health_says_where_it_belongs(kind: str, place: str) -> None:
    seen = look(STORED, CARRIED, kind)

    assert named(seen) == (place, kind)
    assert [name for name, state in states(seen).items() if state == "standing"] == [place] * (place in states(seen))
    assert "{" not in Station(place, "standing", kind, why=KINDS[kind].sentence(VALUES, 7.0)).as_dict()["why"]


@pytest.mark.parametrize("kind", sorted({*KINDS} - {*PLACES}))
def test_what_does_not_hold_up_events_stands_at_no_station(kind: str) -> None:
    assert named(look(STORED, CARRIED, kind)) is None


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (look(None, CARRIED, "database_away"), "database"),
        (look(None, None, "broker_away", "database_away"), "database"),
        (look(STORED, None, "relay_stands", "worker_stands", "broker_away", "canary_absent"), "broker"),
        (look(STORED, CARRIED, "canary_absent", "worker_silent"), "worker"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_blames_the_server_that_is_away_and_not_the_stations_that_wait_for_it(seen: Look, expected: str) -> None:
    guilty = culprit(seen)

    assert guilty
    assert guilty.name == expected
    if expected in ("database", "broker"):
        assert states(seen)["writers"] != "standing"


def test_never_blames_a_backlog_that_moves() -> None:
    behind = look(replace(STORED, outbox_rows=90_000, outbox_seconds=30.0), replace(CARRIED, ready=50))

    assert named(behind) is None
    assert states(behind)["outbox"] == "slow"


def test_says_when_some_of_the_workers_are_silent() -> None:
    partly = way(look(carried=replace(CARRIED, consumers=3, silent=2)))[4]

    assert (partly.state, partly.as_dict()["why"]) == ("slow", "2 of 3 workers do not answer.")


def test_calls_unknown_what_cannot_be_asked() -> None:
    assert states(look(carried=None)) == {
        "writers": "ok", "outbox": "ok", "relay": "unknown", "queue": "unknown", "worker": "unknown", "caches": "ok",
    }  # fmt: skip
    without_database = way(look(stored=None))
    assert {(one.state, one.rate, one.depth) for one in without_database} == {("unknown", None, None)}


def test_knows_that_there_is_no_broker_in_process() -> None:
    alone = way(Look(Answer(STORED), Answer(), Rates()))

    assert {station.state for station in alone} == {"ok"}
    assert [station.code for station in alone if station.code != "ok"] == ["in_process", "in_process"]


def test_has_a_sentence_for_every_reason() -> None:
    values = {"seconds": 3.0, "missing": 1, "consumers": 2, "companies": 4}
    for code in SENTENCES:
        assert "{" not in Station("relay", "ok", code, values).as_dict()["why"]


WELL = signs.StoredSigns(
    "x", relay_leads=True, canary_seconds=1.0, observed_seconds=1.0,
    scheduled=(Scheduled("refresh_all_caches", datetime(2100, 1, 1, tzinfo=UTC), "SUCCESS", None),),
)  # fmt: skip


class TestVerdict:
    @pytest.fixture(autouse=True)
    def with_a_broker(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("CELERY_BROKER_URL", "amqp://nobody:nothing@localhost//")
        settings.cache_clear()
        yield
        settings.cache_clear()

    def verdict(self, stored: Answer[signs.StoredSigns], *open_: Incident) -> dict[str, Any]:
        overview = Overview(list(open_), datetime(2026, 11, 1, tzinfo=UTC)) if stored.value else None
        return Health().take(Signs(stored, Answer(CARRIED)), overview).as_dict()

    def test_is_well_since_the_last_incident_ended(self) -> None:
        found = self.verdict(Answer(WELL))

        assert (found["state"], found["wrong"], found["unknown"]) == ("well", [], [])
        assert found["since"] == "2026-11-01T00:00:00+00:00"

    @pytest.mark.parametrize(
        ("wrong", "kind"), [({"rows_wrong": 203}, "rows_wrong"), ({"letters": 35}, "dead_letters_open")]
    )
    def test_is_bad_while_anything_needs_a_person(self, wrong: Any, kind: str) -> None:
        found = self.verdict(Answer(replace(WELL, **wrong)))

        assert (found["state"], [one["kind"] for one in found["wrong"]]) == ("bad", [kind])

    def test_is_bad_while_a_scheduled_run_has_failed(self) -> None:
        failed = Scheduled("refresh_all_caches", datetime.now(UTC), "FAILURE", "boom")
        assert self.verdict(Answer(replace(WELL, scheduled=(failed,))))["state"] == "bad"

    def test_says_since_when_the_observer_has_seen_it(self) -> None:
        began = datetime(2026, 11, 20, tzinfo=UTC)
        seen = Incident(1, "dead_letters_open", "", began, None, {"letters": 3})

        found = self.verdict(Answer(replace(WELL, letters=3)), seen)

        assert found["since"] == began.isoformat()

    def test_names_what_nobody_knows_while_the_database_is_away(self) -> None:
        found = self.verdict(Answer(failure="no answer in time"))

        assert found["state"] == "bad"
        assert [one["kind"] for one in found["wrong"]] == ["database_away"]
        assert {"caches", "dead_letters", "schedule", "relay", "worker"} <= set(found["unknown"])

    def test_is_unknown_while_nobody_observes(self) -> None:
        assert self.verdict(Answer(replace(WELL, observed_seconds=90.0)))["state"] == "unknown"

    def test_is_unknown_until_the_broker_was_asked(self) -> None:
        found = Health().take(Signs(Answer(WELL), Answer()), Overview([], None), is_broker_asked=False).as_dict()

        assert (found["state"], found["unknown"]) == ("unknown", ["broker", "worker"])

    def test_a_canary_that_never_came_leaves_freshness_unknown(self) -> None:
        assert self.verdict(Answer(replace(WELL, canary_seconds=None)))["unknown"] == ["freshness"]

    def test_a_new_system_is_well_before_its_schedule_comes_round(self) -> None:
        found = self.verdict(Answer(replace(WELL, scheduled=(Scheduled("refresh_all_caches", None, None, None),))))

        assert (found["state"], found["unknown"]) == ("well", ["schedule"])


class TestTrend:
    def test_takes_rates_from_how_far_ids_came(self) -> None:
        trend = Trend()
        trend.take(0.0, replace(STORED, last_id=100, first_waiting=90, outbox_rows=11))
        rates = trend.take(2.0, replace(STORED, last_id=300, first_waiting=150, outbox_rows=151))

        assert (rates.captured, rates.published) == (100.0, 30.0)

    def test_knows_no_rate_while_nobody_answers_nor_at_the_first_answer_after_that(self) -> None:
        trend = Trend()
        for now, stored in enumerate((STORED, STORED, None, STORED)):
            rates = trend.take(float(now), stored)
            assert (rates.captured is None) == (now in (0, 2, 3))

    def test_begins_anew_when_the_sequence_was_set_back(self) -> None:
        trend = Trend()
        trend.take(0.0, STORED)

        assert trend.take(1.0, replace(STORED, last_id=1, first_waiting=2)).captured is None


class TestCanary:
    def state(self, ms: float | None, age: float | None, *kinds: str) -> str:
        return LastCanary(ms, age).state(culprit(look(STORED, CARRIED, *kinds)))

    def test_is_absent_when_the_judge_of_health_says_so(self) -> None:
        assert self.state(8.0, 14.0, "canary_absent") == "absent"

    def test_is_absent_at_once_where_none_can_come(self) -> None:
        assert self.state(8.0, 6.0, "relay_absent") == "absent"

    def test_is_well_while_it_comes_as_it_should(self) -> None:
        assert self.state(8.0, 10.5) == "ok"

    def test_is_unknown_when_none_may_have_been_sent(self) -> None:
        assert self.state(8.0, 600.0) == "unknown"

    def test_is_unknown_before_the_first_one_came(self) -> None:
        assert self.state(None, None) == "unknown"

    def test_is_slow_before_it_is_absent(self) -> None:
        assert self.state(2_500.0, 3.0) == "slow"
