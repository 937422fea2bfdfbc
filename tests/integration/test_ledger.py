"""The ledger: a run's state moves forward only, can be read by anyone, and outlives whoever started it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg2.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.app import db
from backend.app.errors import BeingQueued
from backend.app.ledger import ledger
from backend.app.ledger.tables import FINAL, STATES, TRIGGERS
from tests.plain import Plain

TASK = "refresh_all_caches"


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        yield plain


def announced(task: str = TASK, trigger: str = "api", **options: Any) -> str:
    task_id = str(uuid4())
    assert ledger.announce(task_id, task, trigger, {}, **options)
    return task_id


def state(task_id: str) -> str:
    run = ledger.run(UUID(task_id))
    assert run is not None
    return run.state


def test_an_id_that_was_never_issued_is_not_there(plain: Plain) -> None:
    assert ledger.run(uuid4()) is None


def test_a_run_is_pending_before_anything_is_queued(plain: Plain) -> None:
    run = ledger.run(UUID(announced(trigger="cli")))

    assert run is not None
    fields = run.as_dict()
    assert (fields["task"], fields["trigger"], fields["state"]) == (TASK, "cli", "PENDING")
    assert set(fields) == {
        "task_id",
        "task",
        "trigger",
        "state",
        "progress",
        "result",
        "error",
        "queued_at",
        "started_at",
        "finished_at",
    }
    assert datetime.fromisoformat(fields["queued_at"]).tzinfo is not None
    assert fields["started_at"] is fields["finished_at"] is fields["result"] is None


def test_the_walk_of_a_run(plain: Plain) -> None:
    task_id = announced()
    assert ledger.begin(task_id, TASK, "api", {})
    assert state(task_id) == "STARTED"
    ledger.progress(task_id, {"checked": 5})
    ledger.finish(task_id, "SUCCESS", result={"patched": 1})

    run = ledger.run(UUID(task_id))
    assert run is not None
    assert (run.state, run.progress, run.result, run.error) == ("SUCCESS", {"checked": 5}, {"patched": 1}, None)
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.queued_at <= run.started_at <= run.finished_at


def test_a_redelivered_message_does_not_run_again(plain: Plain) -> None:
    task_id = announced()
    ledger.begin(task_id, TASK, "api", {})
    assert ledger.begin(task_id, TASK, "api", {}), "its worker died: it must run again"
    ledger.finish(task_id, "SUCCESS")

    assert not ledger.begin(task_id, TASK, "api", {})
    assert state(task_id) == "SUCCESS"


def test_a_run_that_nobody_announced_is_written_down_when_it_begins(plain: Plain) -> None:
    task_id = str(uuid4())

    assert ledger.begin(task_id, TASK, "beat", {})

    assert state(task_id) == "STARTED"


OPERATIONS: dict[str, Callable[[str], Any]] = {
    "announce": lambda task_id: ledger.announce(task_id, TASK, "api", {}),
    "begin": lambda task_id: ledger.begin(task_id, TASK, "api", {}),
    "progress": lambda task_id: ledger.progress(task_id, {"n": 1}),
    "retry": lambda task_id: ledger.retry(task_id, "away"),
    **{final: lambda task_id, final=final: ledger.finish(task_id, final) for final in FINAL if final != "EXPIRED"},  # type: ignore[misc]
}


def expected(state: str | None, operation: str) -> str | None:
    """The state machine, said a second time."""
    if state in FINAL:
        return state
    if operation in FINAL:
        return state and operation
    match operation:
        case "announce":
            return state or "PENDING"
        case "begin":
            return "STARTED"
        case "retry":
            return state and "RETRY"
    return state


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(st.sampled_from(list(OPERATIONS)), max_size=7))
def test_states_move_forward_only(plain: Plain, operations: list[str]) -> None:
    task_id = str(uuid4())
    wanted: str | None = None

    for operation in operations:
        OPERATIONS[operation](task_id)
        wanted = expected(wanted, operation)
        run = ledger.run(UUID(task_id))
        assert (run.state if run else None) == wanted
        assert run is None or (run.finished_at is not None) == (wanted in FINAL)


def test_only_the_documented_states_and_triggers_can_be_written(plain: Plain) -> None:
    for column, value in (("state", "LOST"), ("trigger", "cron")):
        row = {"state": "PENDING", "trigger": "api", column: value}
        with pytest.raises(psycopg2.errors.CheckViolation):
            plain.run(
                "INSERT INTO task_runs (task_id, task, trigger, state) VALUES (%s, 'x', %s, %s)",
                (str(uuid4()), row["trigger"], row["state"]),
            )
    for value in STATES:
        plain.run("INSERT INTO task_runs VALUES (gen_random_uuid(), 'x', 'api', %s)", (value,))
    for value in TRIGGERS:
        plain.run("INSERT INTO task_runs VALUES (gen_random_uuid(), 'x', %s, 'PENDING')", (value,))


def test_a_run_that_no_worker_took_in_time_is_expired_by_the_clock(plain: Plain) -> None:
    late, early, begun = (announced(expires_seconds=seconds) for seconds in (-1, 3600, -1))
    plain.run("UPDATE task_runs SET state = 'STARTED' WHERE task_id = %s", (begun,))

    assert [state(task_id) for task_id in (late, early, begun)] == ["EXPIRED", "PENDING", "STARTED"]
    run = ledger.run(UUID(late))
    assert run is not None
    assert run.finished_at == plain.one("SELECT expires_at FROM task_runs WHERE task_id = %s", (late,))
    assert {str(run.task_id) for run in ledger.active()} == {early, begun}
    assert [str(run.task_id) for run in ledger.history(state="EXPIRED")] == [late]
    assert ledger.counts() == {TASK: {"EXPIRED": 1, "PENDING": 1, "STARTED": 1}}


def due(instant: datetime, task_id: str = "", task: str = TASK) -> str | None:
    """Announce a run of beat; the id by which to queue it."""
    return ledger.announce_due(task_id or str(uuid4()), task, "beat", {}, 60, instant)


def test_a_due_instant_is_taken_once(plain: Plain) -> None:
    instant = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)

    first = due(instant)
    assert first is not None
    with pytest.raises(BeingQueued):
        due(instant)
    ledger.queued(first)

    assert due(instant) is None
    other = due(instant, task="update_product_city_cache")
    ledger.queued(str(other))
    assert ledger.last_due() == {TASK: instant, "update_product_city_cache": instant}


def test_a_due_run_that_was_not_queued_is_queued_by_its_own_beat_at_once_and_by_another_one_later(plain: Plain) -> None:
    instant = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
    first = str(due(instant))
    ledger.not_queued(first, "not queued: the broker is away")

    assert ledger.last_due() == {}, "it is still due"
    assert due(instant, first) == first
    for queued_at in ("now() - interval '31 seconds'", "now() + interval '1 year'"):
        plain.run(f"UPDATE task_runs SET queued_at = {queued_at}")
        assert due(instant) == first, "one run a due instant, whoever queues it"
    assert plain.one("SELECT count(*) FROM task_runs") == 1


def test_due_instants_ahead_of_the_clock_are_not_believed(plain: Plain) -> None:
    """Whoever named them had a clock that was wrong; the right ones are queued when they come."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    plain.run("UPDATE task_runs SET scheduled_for = NULL")
    for ahead in (timedelta(days=1), timedelta(days=365)):
        ledger.queued(str(due(now + ahead)))

    assert ledger.last_due() == {}
    ledger.queued(str(due(now)))
    assert ledger.last_due() == {TASK: now}
    assert plain.one("SELECT count(*) FROM task_runs WHERE scheduled_for > now()") == 0, "the wrong instants are free"


def test_a_schedule_fails_as_often_as_its_last_runs_did(plain: Plain) -> None:
    for states in itertools.product(("SUCCESS", "FAILURE", "PENDING", "EXPIRED", "UNQUEUED"), repeat=3):
        plain.run("DELETE FROM task_runs")
        for age, name in enumerate(states):
            scheduled(plain, name, age + 1)

        failed = itertools.takewhile(lambda name: name != "SUCCESS", states)
        assert ledger.failing_schedules() == {TASK: sum(name != "PENDING" for name in failed)}, states


def scheduled(plain: Plain, name: str, hours_ago: int) -> None:
    """A run of beat that ended in this way."""
    state = {"EXPIRED": "PENDING", "UNQUEUED": "PENDING"}.get(name, name)
    plain.run(
        """
        INSERT INTO task_runs (task_id, task, trigger, state, expires_at, error, progress, scheduled_for)
        VALUES (gen_random_uuid(), %s, 'beat', %s, now() - %s * interval '1 hour', %s, '{"attempts": 2}',
                now() - %s * interval '1 hour')""",
        (TASK, state, 1 if name == "EXPIRED" else -1, "not queued" if name == "UNQUEUED" else None, hours_ago),
    )


def test_history_pages_newest_first_without_gap_or_double(plain: Plain) -> None:
    plain.run("""
        INSERT INTO task_runs (task_id, task, trigger, state, queued_at)
        SELECT gen_random_uuid(), 'x', 'api', 'SUCCESS', now() - (n / 3) * interval '1 second'
          FROM generate_series(1, 50) AS n""")
    pages: list[list[ledger.Run]] = [ledger.history(limit=7)]
    while pages[-1]:
        pages.append(ledger.history(limit=7, before=pages[-1][-1].task_id))

    runs = [run for page in pages for run in page]
    assert len({run.task_id for run in runs}) == len(runs) == 50
    assert [run.queued_at for run in runs] == sorted((run.queued_at for run in runs), reverse=True)


def test_history_filters_by_state_and_task(plain: Plain) -> None:
    one, other = announced(), announced(task="clear_all_caches")
    ledger.finish(one, "FAILURE", error="because")

    assert [str(run.task_id) for run in ledger.history(state="FAILURE")] == [one]
    assert [str(run.task_id) for run in ledger.history(task="clear_all_caches")] == [other]
    assert ledger.history(state="FAILURE", task="clear_all_caches") == []


def test_a_finished_batch_is_written_in_the_transaction_of_its_patch(plain: Plain) -> None:
    task_id = str(uuid4())

    def write(commits: bool) -> None:
        with db.engine().connect() as connection, connection.begin() as transaction:
            ledger.insert_finished(connection, task_id, "apply_catalog_events", "event", {"keys": 3}, 10.0, 11.5)
            (transaction.commit if commits else transaction.rollback)()

    write(commits=False)
    assert ledger.run(UUID(task_id)) is None
    write(commits=True)
    run = ledger.run(UUID(task_id))
    assert run is not None
    assert (run.state, run.trigger, run.result) == ("SUCCESS", "event", {"keys": 3})
    assert run.queued_at == datetime.fromtimestamp(10.0, UTC)
    assert run.started_at == datetime.fromtimestamp(11.5, UTC)


def test_runs_of_a_process_that_is_gone_end(plain: Plain) -> None:
    pending, begun, done = announced(), announced(), announced()
    ledger.begin(begun, TASK, "api", {})
    ledger.finish(done, "SUCCESS")

    ledger.abandon("its process ended")

    assert [state(task_id) for task_id in (pending, begun, done)] == ["FAILURE", "FAILURE", "SUCCESS"]


def test_few_runs_are_counted_and_of_many_it_is_known_about_how_many(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_COUNTED", 500)
    plain.run("""
        INSERT INTO task_runs (task_id, task, trigger, state, queued_at)
        SELECT gen_random_uuid(), 'many', 'event', CASE WHEN n % 100 = 0 THEN 'FAILURE' ELSE 'SUCCESS' END,
               now() - n * interval '10 seconds' FROM generate_series(1, 20000) AS n""")
    plain.run("INSERT INTO task_runs SELECT gen_random_uuid(), 'few', 'api', 'SUCCESS' FROM generate_series(1, 3)")
    plain.run("ANALYZE task_runs")

    found = ledger.counts()

    assert found["few"] == {"SUCCESS": 3}
    assert found["many"]["FAILURE"] == 86
    assert found["many"]["SUCCESS"] == pytest.approx(8640 - 86, rel=0.2)
