"""Tasks over HTTP: starting them, reading runs, dead letters, on a real broker and without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from events import topology
from events.connection import connect
from tests.integration.api import V1, Client, Words, is_problem
from tests.plain import Plain
from tests.system import System

TASKS = (
    "update-product-city-cache", "update-company-city-cache", "update-cities-product-count", "refresh-all-caches",
    "clear-all-caches",
)  # fmt: skip
RUN = {
    "task_id", "task", "trigger", "state", "progress", "result", "error", "queued_at", "started_at", "finished_at"
}  # fmt: skip


@pytest.fixture
def brokered(database: str, broker: str, tmp_path: Path) -> Iterator[Words]:
    """A client of an API process on the test's database and vhost; no worker runs."""
    with System(database, broker, tmp_path / "system", OBSERVER="false") as system:
        system.start(["api"])
        with Words(base_url=system.api_url, timeout=5) as api:
            yield api


def test_starts_each_documented_task(brokered: Words, plain: Plain) -> None:
    for task in TASKS:
        answer = brokered.post(f"{V1}/celery/tasks/{task}")
        assert answer.status_code == 202, answer.text
        body = answer.json()
        assert set(body) == {"task_id", "task", "state", "status_url"}
        assert (body["task"], body["state"]) == (task.replace("-", "_"), "PENDING")
        assert body["status_url"] == answer.headers["location"] == f"{V1}/celery/tasks/{body['task_id']}"
        run = brokered.get(body["status_url"]).json()
        assert set(run) == RUN
        assert (run["state"], run["trigger"], run["task"]) == ("PENDING", "api", body["task"])
    assert len(brokered.read("/celery/tasks")["items"]) == len(TASKS)
    stats = brokered.read("/celery/stats")
    assert stats["queues"]["city-cache.maintenance"] == len(TASKS)
    assert stats["tasks"]["clear_all_caches"] == {"PENDING": 1}
    assert (stats["lag"], stats["workers"], stats["unavailable"]) == (
        {"outbox_rows": 0, "queue_messages": 0, "oldest_event_seconds": 0.0}, [], {}
    )  # fmt: skip


NAMING = (
    "INSERT INTO cities (id, name) VALUES (7, 'a')",
    "INSERT INTO city_counts (city_id) VALUES (8)",
    "INSERT INTO product_city_mapping VALUES (1, 9, 1, 'product')",
    "INSERT INTO company_city_mapping VALUES (1, -10)",
    "UPDATE active_cities_cache SET active_city_ids = '{11}' WHERE cache_type = 'companies'",
)


def test_rebuilds_a_city_that_the_catalog_or_any_cache_names(brokered: Words, plain: Plain) -> None:
    for city in (7, 8, 9, -10, 11):
        is_problem(brokered.post(f"{V1}/celery/tasks/rebuild-city/{city}"), 404)
    is_problem(brokered.post(f"{V1}/celery/tasks/rebuild-city/seven"), 422)
    for statement in NAMING:
        plain.run(statement)
    for city in (7, 8, 9, -10, 11):
        answer = brokered.post(f"{V1}/celery/tasks/rebuild-city/{city}")
        assert answer.status_code == 202, answer.text
        assert brokered.read(answer.json()["status_url"].removeprefix(V1))["task"] == "rebuild_city"
    arguments = plain.column("SELECT arguments FROM task_runs ORDER BY queued_at")
    assert arguments == [{"city_id": city} for city in (7, 8, 9, -10, 11)]


def test_starts_a_replay_with_its_arguments(brokered: Words, plain: Plain) -> None:
    bodies = [None, {}, {"from_offset": 0, "dry_run": True}, {"since": "2026-01-01T00:00:00+01:00"}]
    bodies.append({"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"})
    for body in bodies:
        answer = brokered.post(f"{V1}/celery/tasks/replay-events", json=body)
        assert answer.status_code == 202, answer.text
    last = plain.one("SELECT arguments FROM task_runs ORDER BY queued_at DESC LIMIT 1")
    assert last | {"dry_run": False} == {**bodies[-1], "dry_run": False}


def test_refuses_a_replay_that_makes_no_sense(brokered: Words) -> None:
    for body in (
        {"since": 5}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"since": "2026-01-01"},
        {"from_offset": -1}, {"from_offset": 2**63}, {"from_offset": "1"}, {"dry_run": "yes"}, {"dry_run": None},
        {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, {"unknown": 1}, [],
        {"since": "2026-01-02T00:00:00Z", "from_offset": 1}, {"until": ""},
    ):  # fmt: skip
        problem = is_problem(brokered.post(f"{V1}/celery/tasks/replay-events", json=body), 422)
        assert problem["errors"], body


def test_answers_404_for_a_run_that_was_never_issued(api: Client) -> None:
    for task_id in (uuid4(), "nonsense", "0", "%00"):
        is_problem(api.get(f"{V1}/celery/tasks/{task_id}"), 404)


def insert_runs(plain: Plain, number: int) -> list[str]:
    ids = [str(UUID(int=n)) for n in range(1, number + 1)]
    for n, task_id in enumerate(ids):
        plain.run(
            "INSERT INTO task_runs (task_id, task, trigger, state, queued_at)"
            " VALUES (%s, %s, 'beat', %s, now() - %s * interval '1 minute')",
            (
                task_id,
                "refresh_all_caches" if n % 2 else "clear_all_caches",
                ("SUCCESS", "STARTED")[n % 3 == 0],
                n // 2,
            ),
        )
    return ids


def test_pages_through_the_history(api: Client, plain: Plain) -> None:
    insert_runs(plain, 11)
    runs = api.pages("/celery/tasks", limit=4)
    assert len({run["task_id"] for run in runs}) == 11
    assert [run["queued_at"] for run in runs] == sorted((run["queued_at"] for run in runs), reverse=True)
    assert {run["state"] for run in api.pages("/celery/tasks")} == {"STARTED"}
    assert len(api.pages("/celery/tasks", state="SUCCESS", limit=2)) == 7
    assert len(api.pages("/celery/tasks", task="clear_all_caches", limit=3)) == 6
    assert api.read("/celery/tasks", before=uuid4())["items"] == []


def test_refuses_a_history_that_makes_no_sense(api: Client) -> None:
    for query in ("state=DONE", "limit=0", "limit=501", "before=x", "task=%00"):
        is_problem(api.get(f"{V1}/celery/tasks?{query}"), 422)


@pytest.fixture
def queues(broker: str) -> Iterator[Any]:
    """A channel of a broker on which relay or worker have been."""
    with connect(broker, "test") as connection:
        channel = connection.channel()
        topology.declare(channel)
        yield channel


def test_lists_dead_letters_and_sends_them_again(brokered: Words, plain: Plain, queues: Any) -> None:
    plain.run(
        "INSERT INTO dead_letters (kind, reason, subject, payload, headers)"
        " SELECT CASE n %% 2 WHEN 0 THEN 'failed' ELSE 'unreadable' END, 'reason ' || n %% 2, 'product/' || n, %s, '{}'"
        " FROM generate_series(1, 7) AS n",
        (json.dumps({"id": "e", "subject": "product/1", "time": "2026-01-01T00:00:00Z"}),),
    )
    letters = brokered.pages("/events/dead-letters", limit=3)
    assert [letter["id"] for letter in letters] == list(range(7, 0, -1))
    assert len(brokered.pages("/events/dead-letters", kind="failed")) == 3
    assert len(brokered.pages("/events/dead-letters", reason="reason 1")) == 4
    assert brokered.read("/events/dead-letters", state="closed")["items"] == []
    for body, number in (({"ids": [1, 2]}, 2), ({"reason": "reason 0"}, 2), ({"all": True}, 3)):
        answer = brokered.post(f"{V1}/events/dead-letters/requeue", json=body)
        assert (answer.status_code, answer.json()) == (202, {"requeued": number, "more": False})


MANY: Final = """
    INSERT INTO dead_letters (kind, reason, subject)
    SELECT 'failed', 'x', 'product/' || n FROM generate_series(1, %s) AS n"""


@pytest.mark.calm
class TestCalm:
    def test_thousands_of_letters_are_sent_again_in_the_time_of_a_request(
        self, brokered: Words, plain: Plain, queues: Any
    ) -> None:
        brokered.post(f"{V1}/events/dead-letters/requeue", json={"all": True})  # its process has loaded all of it
        plain.run(MANY, (5_000,))
        parts, more = [], True
        while more:
            answer = brokered.post(f"{V1}/events/dead-letters/requeue", json={"all": True})
            assert answer.status_code == 202, answer.text
            parts.append(answer.json()["requeued"])
            more = answer.json()["more"]
        assert len(parts) < 8, parts
        assert sum(parts) == queues.queue_declare(topology.UPDATER.name, passive=True).message_count == 5_000
        assert plain.one("SELECT count(*) FROM dead_letters WHERE closed_at IS NULL") == 0


def test_letters_stay_open_while_there_is_no_queue_or_no_room_for_them(
    brokered: Words, plain: Plain, broker: str
) -> None:
    plain.run(MANY, (70,))
    is_problem(brokered.post(f"{V1}/events/dead-letters/requeue", json={"all": True}), 503)
    assert plain.one("SELECT count(*) FROM dead_letters WHERE closed_at IS NULL AND requeued_at IS NULL") == 70
    with connect(broker, "test") as connection:
        limits = {"x-max-length": 30, "x-overflow": "reject-publish"}
        connection.channel().queue_declare(topology.UPDATER.name, durable=True, auto_delete=False, arguments=limits)
    is_problem(brokered.post(f"{V1}/events/dead-letters/requeue", json={"all": True}), 503)
    assert plain.one("SELECT count(*) FROM dead_letters WHERE closed_at IS NULL AND requeued_at IS NULL") == 40
    assert plain.column("SELECT DISTINCT closed_because FROM dead_letters WHERE closed_at IS NOT NULL") == ["requeued"]


def test_letters_whose_headers_are_none_hide_no_others(brokered: Words, plain: Plain, queues: Any) -> None:
    """Whoever may write the table may write any JSON."""
    for headers in ("5", "[1]", '"x"', "null", "true", '{"a": 1}'):
        plain.run(
            "INSERT INTO dead_letters (kind, reason, payload, headers) VALUES ('unreadable', 'x', 'x', %s)", (headers,)
        )
    assert [letter["headers"] for letter in brokered.read("/events/dead-letters")["items"]].count(None) == 5
    answer = brokered.post(f"{V1}/events/dead-letters/requeue", json={"all": True})
    assert (answer.status_code, answer.json()) == (202, {"requeued": 6, "more": False})


def test_refuses_to_requeue_what_is_not_named(api: Client) -> None:
    for body in ({}, {"all": False}, {"ids": []}, {"ids": [1], "all": True}, {"ids": ["1"]}, {"reason": ""}, {"x": 1}):
        is_problem(api.post(f"{V1}/events/dead-letters/requeue", json=body), 422)
