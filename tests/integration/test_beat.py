"""Beat: the documented schedule, and one run for each due instant however many beats there are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.schedules import crontab, schedule
from hypothesis import given
from hypothesis import strategies as st

from backend.app import celery_app
from backend.app.beat.scheduler import LedgerScheduler, due_instant
from backend.app.ledger import ledger
from backend.embedded import inprocess
from tests.plain import Plain

DOCUMENTED = {
    "update_product_city_cache": {0, 30},
    "update_company_city_cache": {0, 30},
    "update_cities_product_count": {0, 15, 30, 45},
    "refresh_all_caches": {0},
}


def at(hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(2026, 11, 24, hour, minute, second, tzinfo=UTC)


def test_the_schedule_is_the_documented_one() -> None:
    found = {entry["task"]: entry for entry in celery_app.beat_schedule.values()}

    assert celery_app.app.conf.beat_schedule is celery_app.beat_schedule or (
        celery_app.app.conf.beat_schedule == celery_app.beat_schedule
    )
    assert {task: entry["schedule"].minute for task, entry in found.items()} == DOCUMENTED
    assert all(len(entry["schedule"].hour) == 24 for entry in found.values())


def test_a_run_that_no_worker_takes_expires_before_the_next_one_is_due() -> None:
    for entry in celery_app.beat_schedule.values():
        interval = 3600 / len(entry["schedule"].minute)
        assert 0 < entry["options"]["expires"] < interval
        assert entry["options"]["headers"] == {"trigger": "beat"}


@pytest.mark.parametrize(
    ("timing", "now", "instant"),
    [
        (crontab(minute="*/30"), at(10, 0), at(10, 0)),
        (crontab(minute="*/30"), at(10, 0, 59), at(10, 0)),
        (crontab(minute="*/30"), at(10, 29, 59), at(10, 0)),
        (crontab(minute="*/30"), at(10, 45), at(10, 30)),
        (crontab(minute="0"), at(10, 59), at(10, 0)),
        (crontab(minute="0", hour="3"), at(2, 0), at(3, 0) - timedelta(days=1)),
        (crontab(minute="0", hour="0", day_of_week="sunday"), at(2, 0), datetime(2026, 11, 22, tzinfo=UTC)),
        (crontab(minute="0", hour="0", day_of_month="1"), at(2, 0), datetime(2026, 11, 1, tzinfo=UTC)),
        (schedule(timedelta(seconds=90)), at(0, 1), at(0, 0)),
        (schedule(timedelta(seconds=90)), at(0, 1, 31), at(0, 1, 30)),
    ],
)
def test_the_due_instant_is_the_last_one(timing: Any, now: datetime, instant: datetime) -> None:
    assert due_instant(timing, now) == instant


@given(
    seconds=st.integers(0, 10**8),
    late=st.integers(0, 3599),
    timing=st.sampled_from([entry["schedule"] for entry in celery_app.beat_schedule.values()]),
)
def test_two_beats_name_the_same_instant_until_the_next_one_is_due(seconds: int, late: int, timing: Any) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    instant = due_instant(timing, now)
    following = instant + timedelta(hours=1) / len(timing.minute)

    later = now + timedelta(seconds=late)

    assert instant <= now < following
    assert (due_instant(timing, later) == instant) == (later < following)


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        yield plain


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks that went to the broker; there is none here."""
    names: list[str] = []
    monkeypatch.setattr("celery.Task.apply_async", lambda self, *args, **options: names.append(self.name))
    return names


def scheduler() -> LedgerScheduler:
    return LedgerScheduler(app=celery_app.app, Producer=lambda *args, **options: None)


def test_two_beats_queue_each_due_instant_once(plain: Plain, queued: list[str]) -> None:
    first, second = scheduler(), scheduler()

    for beat in (first, second, first):
        for entry in beat.schedule.values():
            beat.apply_entry(entry)

    assert sorted(queued) == sorted(DOCUMENTED)
    assert plain.one("SELECT count(*) FROM task_runs WHERE trigger = 'beat' AND state = 'PENDING'") == 4


def test_a_beat_that_was_suspended_does_not_run_again_what_another_one_has(
    plain: Plain, queued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes 20 minutes late and takes 10:00 for due, which the other one has queued long ago."""
    beat = scheduler()
    entry = beat.schedule["update-product-city-cache"]
    task_id = ledger.announce_due("0b4f5b0a-7b0e-4c60-9d0a-000000000002", entry.task, "beat", {}, 60, at(10, 0))
    ledger.queued(str(task_id))

    class Late(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return at(10, 20)

    monkeypatch.setattr("backend.app.beat.scheduler.datetime", Late)
    beat.apply_entry(entry)

    assert queued == []


def test_an_entry_keeps_its_options(plain: Plain, queued: list[str]) -> None:
    """They are compared at every tick: an entry that changed would start the schedule anew."""
    beat = scheduler()
    before = {name: dict(entry.options) for name, entry in beat.schedule.items()}

    for entry in beat.schedule.values():
        beat.apply_entry(entry)

    assert {name: dict(entry.options) for name, entry in beat.schedule.items()} == before


def test_a_beat_that_starts_remembers_when_each_task_was_due_last(plain: Plain) -> None:
    long_ago = (datetime.now(UTC) - timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)
    task_id = "0b4f5b0a-7b0e-4c60-9d0a-000000000001"
    ledger.announce_due(task_id, "refresh_all_caches", "beat", {}, 60, long_ago)
    ledger.queued(task_id)

    entries = scheduler().schedule

    assert entries["refresh-all-caches"].last_run_at == long_ago
    assert entries["refresh-all-caches"].is_due()[0], "what it missed is queued at once, and once"


def test_the_beat_inside_the_one_process_remembers_by_the_ledger_too(plain: Plain) -> None:
    """It needs no file, and a run that it queued before a crash is not queued again after it."""
    service = inprocess.beat()

    assert isinstance(service.scheduler, LedgerScheduler)
    assert set(DOCUMENTED) <= set(celery_app.app.tasks)
