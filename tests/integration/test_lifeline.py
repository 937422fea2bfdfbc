"""Durable work has somebody who takes it up: wide patches without a run, and runs without a process or a message."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from backend.app import db, settings
from backend.app.caches import rebuilds
from backend.app.caches.apply import drain_wide
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import LOCK_CLASS, patch
from backend.app.celery_app import app
from backend.app.ledger import ledger, lifeline
from backend.app.ledger.lifeline import GONE, Lifeline
from backend.app.tasks import events, rescue
from backend.app.tasks.events import apply_wide_patches
from backend.app.tasks.single_flight import flight
from backend.app.worker.batch import Batch
from events.contract import Hint
from events.topology import MAINTENANCE
from tests import catalogs, oracle
from tests.plain import Plain
from tests.system import System
from tests.waiting import until

CAUSE: Final = Cause("test")
NOW: Final = "2026-11-24T00:00:00Z"


@pytest.fixture
def here(broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process's Celery app speaks to the test's vhost."""
    for name in ("broker_read_url", "broker_write_url"):
        monkeypatch.setitem(app.conf, name, broker)
    monkeypatch.setattr(app, "_pool", None)
    monkeypatch.setattr(app.amqp, "_producer_pool", None)
    yield
    app.pool.force_close_all()


@pytest.fixture
def plain(configured: None, here: None, database: str) -> Iterator[Plain]:
    """Three cities with right caches and no events, and a broker."""
    with Plain(database) as plain:
        catalogs.many(plain, cities=3, companies=4, products=40)
        rebuilds.rebuild("products", CAUSE)
        rebuilds.rebuild("companies", CAUSE)
        catalogs.no_events(plain)
        yield plain


def announced(task: str, state: str = "PENDING", arguments: dict[str, Any] | None = None) -> str:
    """A run of long ago without message and process."""
    task_id = str(uuid4())
    ledger.announce(task_id, task, "api", arguments or {})
    if state == "STARTED":
        ledger.begin(task_id, task, "api", {})
    return task_id


def state(plain: Plain, task_id: str) -> tuple[str, str | None]:
    found: tuple[str, str | None] = plain.all("SELECT state, error FROM task_runs WHERE task_id = %s", (task_id,))[0]
    return found


def own_lifeline() -> Lifeline:
    """As a worker's, without patience."""
    return Lifeline(rescue.held, lambda: None, grace=0.0)


def queued(broker: str) -> list[str]:
    """Ids of the tasks in the queue, which is left empty."""
    with app.connection_for_read(broker) as connection:
        queue = connection.SimpleQueue(app.amqp.queues[MAINTENANCE])
        ids = []
        while True:
            try:
                message = queue.get(timeout=0.5)
            except queue.Empty:
                return ids
            message.ack()
            ids.append(message.headers["id"])


def take_out_of_cities(plain: Plain, company: int) -> None:
    """The company is in no city any more, and its own row follows; those of its products are left."""
    plain.run("UPDATE companies SET is_active = false WHERE id = %s", (company,))
    catalogs.no_events(plain)
    with db.transaction() as connection:
        patch(connection, Keys(companies=[company]), CAUSE)


def ask(plain: Plain) -> None:
    plain.run("INSERT INTO wide_patches (company_id, of_company) VALUES (1, true)")


def work_off(task_id: str) -> None:
    apply_wide_patches.apply(task_id=task_id)


@pytest.mark.parametrize("what", ["everything", "a company"])
def test_a_wide_patch_that_the_server_undid_for_the_sake_of_others_is_tried_again(
    plain: Plain, database: str, what: str
) -> None:
    take_out_of_cities(plain, 1)
    request = {
        "everything": "INSERT INTO wide_patch_of_everything DEFAULT VALUES",
        "a company": "INSERT INTO wide_patches (company_id, of_company) VALUES (1, true)",
    }
    plain.run(request[what])
    product = plain.one("SELECT min(product_id) FROM product_city_mapping WHERE company_id = 1")
    task_id = str(uuid4())
    working = threading.Thread(target=work_off, args=(task_id,))
    with Plain(database, autocommit=False) as other:
        other.run("SET deadlock_timeout = '60s'")  # whoever waits longest finds the deadlock, and is its victim
        other.run("SELECT FROM product_city_mapping WHERE product_id = %s FOR UPDATE", (product,))
        working.start()
        until(lambda: plain.one("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
        other.run("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_CLASS, product % settings.settings().patch_lanes))
        other.rollback()
    working.join(30)

    assert plain.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") >= 1
    assert state(plain, task_id) == ("SUCCESS", None)
    assert plain.one("SELECT count(*) FROM wide_requests") == 0
    assert oracle.violations(plain) == []


def test_a_wide_patch_that_waits_without_a_run_gets_one(plain: Plain, broker: str) -> None:
    own = rescue.lifeline()
    own.run_once()
    assert queued(broker) == []

    ask(plain)
    own.run_once()
    own.run_once()

    assert queued(broker) == plain.column("SELECT task_id::text FROM task_runs WHERE state = 'PENDING'")


def test_events_that_come_while_a_run_for_wide_patches_waits_queue_no_other(
    plain: Plain, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIDE_PATCH_KEYS", "1")
    settings.settings.cache_clear()
    for company in (1, 2, 1):
        events.apply_events(Batch([Hint("company", company, str(uuid4()), NOW, None)]), str(uuid4()))
    (run,) = queued(broker)
    assert plain.one("SELECT count(*) FROM wide_requests") == 2

    work_off(run)

    assert state(plain, run) == ("SUCCESS", None)
    assert plain.one("SELECT count(*) FROM wide_requests") == 0
    assert queued(broker) == []


def test_what_is_asked_for_after_the_last_look_of_a_run_gets_the_next_one(
    plain: Plain, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drain_and_be_asked(*arguments: Any) -> dict[str, int]:
        done = drain_wide(*arguments)
        ask(plain)
        events.begin_wide_patches("event")
        return done

    monkeypatch.setattr(events, "drain_wide", drain_and_be_asked)
    ask(plain)
    work_off(str(uuid4()))

    assert len(queued(broker)) == 1


def test_what_is_asked_for_while_a_run_waits_in_vain_for_the_one_before_gets_the_next_one(
    plain: Plain, broker: str
) -> None:
    skipped = str(uuid4())
    ask(plain)
    with flight("wide"):
        work_off(skipped)

    assert state(plain, skipped)[0] == "SKIPPED"
    assert len(queued(broker)) == 1


def test_a_run_for_wide_patches_that_failed_is_not_begun_again_in_a_rush(
    plain: Plain, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> dict[str, int]:
        raise ValueError("for the test")

    monkeypatch.setattr(events, "drain_wide", fail)
    ask(plain)
    failed = str(uuid4())
    work_off(failed)

    assert state(plain, failed)[0] == "FAILURE"
    assert queued(broker) == []


def test_a_worker_takes_up_what_waits_while_it_lives(plain: Plain, system: System) -> None:
    take_out_of_cities(plain, 1)
    system.start(["worker"])
    system.wait_until(lambda: "ready" in system.log("worker"), 60, "the worker is ready")
    ask(plain)

    system.wait_until(lambda: not plain.one("SELECT count(*) FROM wide_requests"), 60, "it is worked off")

    assert oracle.violations(plain) == []


@pytest.mark.parametrize("begun", ["PENDING", "STARTED"])
def test_a_run_whose_message_was_purged_ends_and_says_so(plain: Plain, begun: str) -> None:
    task_id = announced("refresh_all_caches", begun)

    assert [run.task_id for run in own_lifeline().run_once()] == [task_id]

    assert state(plain, task_id) == ("FAILURE", GONE)


def test_where_the_server_does_not_tell_its_timeline_runs_are_rescued_all_the_same_and_the_log_says_it_once(
    plain: Plain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(lifeline.SQL, "timeline", "SELECT a_function_that_this_server_lacks()")
    task_id = announced("refresh_all_caches")
    watch = own_lifeline()
    assert [run.task_id for _ in range(2) for run in watch.run_once()] == [task_id]
    said = [record.getMessage() for record in caplog.records if "after a promotion" in record.getMessage()]
    assert len(said) == 1
    assert "a_function_that_this_server_lacks" in said[0]


def test_a_run_is_given_time_until_its_message_comes_again(plain: Plain) -> None:
    task_id = announced("refresh_all_caches", "STARTED")
    plain.run(
        "UPDATE task_runs SET queued_at = queued_at - interval '1 day', started_at = started_at - interval '1 day'"
    )
    own = Lifeline(rescue.held, lambda: None, grace=30.0)

    assert own.run_once() == own.run_once() == []
    assert state(plain, task_id) == ("STARTED", None)


def test_a_run_that_somebody_works_on_is_left_alone(plain: Plain) -> None:
    task_id = announced("refresh_all_caches", "STARTED")
    with closing(db.direct(f"run {task_id}")):
        assert own_lifeline().run_once() == []
    assert state(plain, task_id) == ("STARTED", None)


def test_a_run_whose_message_waits_is_left_alone(plain: Plain, broker: str) -> None:
    task_id = announced("refresh_all_caches")
    app.send_task("refresh_all_caches", task_id=task_id, queue=MAINTENANCE)
    assert own_lifeline().run_once() == []
    assert state(plain, task_id) == ("PENDING", None)


def test_a_run_that_waits_in_a_workers_hands_is_left_alone(
    plain: Plain, database: str, broker: str, tmp_path: Path
) -> None:
    """All children of the worker are at work, and it has taken one message more."""
    task_id = announced("update_cities_product_count")
    with (
        Plain(database, autocommit=False) as other,
        System(database, broker, tmp_path, OBSERVER="false", WORKER_CONCURRENCY="1") as system,
    ):
        other.run("SELECT FROM active_cities_cache FOR UPDATE")  # for which patches wait
        system.start(["relay", "worker"])
        plain.run("UPDATE companies SET is_active = false")
        system.wait_until(lambda: plain.one("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"), 60)
        app.send_task("update_cities_product_count", task_id=task_id, queue=MAINTENANCE)

        system.wait_until(lambda: rescue.held([task_id]) == {task_id}, 30, "the worker says that it has the message")
        assert own_lifeline().run_once() == []
        other.rollback()
        system.wait_until(lambda: state(plain, task_id) == ("SUCCESS", None), 60)


def test_a_replay_is_started_again_under_its_id(plain: Plain, broker: str) -> None:
    task_id = announced("replay_events", "STARTED", {"from_offset": 7})
    own = rescue.lifeline()
    own.grace = 0.0

    own.run_once()

    assert state(plain, task_id) == ("STARTED", None)
    assert queued(broker) == [task_id]
