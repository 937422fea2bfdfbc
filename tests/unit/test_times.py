"""Times of events are instants, whatever their publisher writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as some

from events import times

NOW = datetime(2026, 11, 25, tzinfo=UTC)
ZONES = some.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
PAST = some.datetimes(datetime(1970, 1, 3), datetime(2025, 1, 1), timezones=ZONES)


def written(at: datetime, how: int) -> str:
    """One of the ways in which RFC 3339 lets an instant be written."""
    text = at.isoformat()
    return (text, text.replace("T", " "), text.replace("T", "t"), text.replace("+00:00", "z"))[how % 4]


@given(some.lists(some.tuples(PAST, some.integers(0, 3)), min_size=1))
def test_the_oldest_and_the_newest_are_found_in_whatever_zone_they_are_written(
    past: list[tuple[datetime, int]],
) -> None:
    texts = [written(at, how) for at, how in past]
    instants = [at.timestamp() for at, _ in past]

    assert abs((times.seconds(times.earliest(texts)) or 0) - min(instants)) < 0.001
    assert abs((times.seconds(times.latest(texts)) or 0) - max(instants)) < 0.001


@given(some.datetimes(datetime(2026, 11, 26), datetime(9999, 12, 30), timezones=ZONES))
def test_a_time_that_lies_ahead_counts_as_now(ahead: datetime) -> None:
    assert times.seconds(ahead.isoformat(), NOW.timestamp()) == NOW.timestamp()


@given(some.one_of(some.text(), some.none(), some.integers(), some.floats(), some.binary(), some.lists(some.text())))
def test_whatever_is_no_time_is_unknown(anything: object) -> None:
    found = times.seconds(anything)
    assert found is None or isinstance(anything, str)


def test_a_time_without_a_zone_is_unknown_and_a_leap_second_is_not() -> None:
    assert times.seconds("2026-01-31T12:00:00") is None
    assert times.seconds("2016-12-31T23:59:60Z") == times.seconds("2016-12-31T23:59:59Z")


def test_what_is_beyond_any_calendar_is_cut_to_the_nearest_known_instant() -> None:
    assert times.seconds("0001-01-01T00:00:00+14:00") == 0.0
    assert times.seconds("9999-12-31T23:59:59-12:00", NOW.timestamp()) == NOW.timestamp()


def test_an_unknown_time_may_be_older_than_all_others() -> None:
    assert times.earliest(["2026-01-31T12:00:00Z", "yesterday"]) is None
    assert times.latest(["2026-01-31T12:00:00Z", "yesterday"]) == "2026-01-31T12:00:00.000000Z"
    assert times.earliest([]) is times.latest([]) is None
