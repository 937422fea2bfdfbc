"""Roles, the audit log, limits and headers, through the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backend.app import db
from backend.app.access import audit_log
from backend.app.ledger import retention
from backend.app.settings import settings
from tests.integration.api import V1, Client, client, is_problem
from tests.plain import Plain
from tests.waiting import until

KEYS = {name: f"{name}-key-0123456789abcdef" for name in ("read", "operate", "admin")}
API_KEYS = ",".join(f"the-{name}:{name}:{key}" for name, key in KEYS.items())
LOG = f"{V1}/audit-log"


def as_(role: str) -> dict[str, str]:
    return {"X-API-Key": KEYS[role]}


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[Client]:
    for name, value in {"OBSERVER": "false", **variables}.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    with client() as api:
        yield api


@pytest.fixture
def locked(configured_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with opened(monkeypatch, API_KEYS=API_KEYS) as api:
        yield api


def entries(api: Client, **query: Any) -> list[dict[str, Any]]:
    answer = api.get(LOG, headers=as_("admin"), params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def test_tells_admins_who_asked_for_a_run_and_everybody_what_it_was_given(locked: Client, plain: Plain) -> None:
    asked, other = plain.column(
        """INSERT INTO task_runs (task_id, task, trigger, state, arguments, queued_at)
           SELECT gen_random_uuid(), 'rebuild_city', 'api', 'SUCCESS', '{"city_id": 7}', now() - n * interval '1 hour'
             FROM generate_series(0, 1) AS n RETURNING task_id::text"""
    )
    made = f"{V1}/celery/tasks/{asked}"
    plain.run(
        "INSERT INTO audit_log (name, method, path, status, detail) VALUES ('ops', 'POST', '/x', 202, %s)", (made,)
    )

    def told(run: str, role: str) -> tuple[Any, Any]:
        answer = locked.get(f"{V1}/console/runs/{run}", headers=as_(role)).json()
        return answer["arguments"], answer["started_by"]

    assert told(asked, "admin") == ({"city_id": 7}, "ops")
    assert told(asked, "operate") == ({"city_id": 7}, None)
    assert told(other, "admin") == ({"city_id": 7}, None)
    is_problem(locked.get(f"{V1}/console/runs/nothing", headers=as_("admin")), 404)


def test_each_role_may_what_it_may(locked: Client) -> None:
    may = {
        ("GET", "/events/dead-letters"): "read",
        ("POST", "/cities"): "operate",
        ("DELETE", "/cities/1"): "operate",
        ("POST", "/events/dead-letters/requeue"): "operate",
        ("GET", "/audit-log"): "admin",
        ("POST", "/celery/tasks/clear-all-caches"): "admin",
    }
    roles = list(KEYS)
    for (method, path), needed in may.items():
        is_problem(locked.request(method, V1 + path), 401)
        for role in roles:
            answer = locked.request(method, V1 + path, headers=as_(role), content=b"{")
            if roles.index(role) < roles.index(needed):
                assert needed in is_problem(answer, 403)["detail"]
            else:
                assert answer.status_code not in (401, 403), (method, path, role)


def test_writes_down_who_did_what_with_which_result(locked: Client) -> None:
    made = locked.post(f"{V1}/cities", json={"name": "body-secret"}, headers=as_("operate"))
    locked.post(f"{V1}/cities?key={KEYS['admin']}", json={}, headers={"Authorization": f"Bearer {KEYS['operate']}"})
    locked.delete(f"{V1}/cities/999", headers=as_("admin"))
    locked.post(f"{V1}/cities", json={"name": "n"}, headers={"X-API-Key": "a-wrong-key-that-nobody-has"})
    locked.post(f"{V1}/celery/tasks/clear-all-caches", headers=as_("operate"))
    locked.get(f"{V1}/cities", headers=as_("admin"))
    locked.get(f"{V1}/events/dead-letters")

    found = entries(locked)

    names = ("name", "role", "method", "path", "status", "detail")
    assert [tuple(entry[name] for name in names) for entry in reversed(found)] == [
        ("the-operate", "operate", "POST", "/api/v1/cities", 201, made.headers["location"]),
        ("the-operate", "operate", "POST", "/api/v1/cities", 422, None),
        ("the-admin", "admin", "DELETE", "/api/v1/cities/999", 404, None),
        (None, None, "POST", "/api/v1/cities", 401, "the API key is wrong"),
        ("the-operate", "operate", "POST", "/api/v1/celery/tasks/clear-all-caches", 403,
         "this needs the role admin; the key 'the-operate' has the role operate"),
        (None, None, "GET", "/api/v1/events/dead-letters", 401,
         "this needs an API key, as X-API-Key or as Authorization: Bearer"),
    ]  # fmt: skip
    assert {entry["address"] for entry in found} == {"testclient"}
    text = json.dumps(found)
    assert not any(secret in text for secret in (*KEYS.values(), "body-secret", "a-wrong-key"))
    assert entries(locked) == found, "reading it adds nothing"


def test_is_read_page_by_page_and_by_name(locked: Client) -> None:
    for number in range(7):
        locked.delete(f"{V1}/cities/{number}", headers=as_("operate"))

    first = locked.get(LOG, headers=as_("admin"), params={"limit": 3, "name": "the-operate"}).json()
    second = locked.get(first["next"], headers=as_("admin")).json()
    third = locked.get(second["next"], headers=as_("admin")).json()

    paths = [entry["path"] for page in (first, second, third) for entry in page["items"]]
    assert paths == [f"/api/v1/cities/{number}" for number in reversed(range(7))]
    assert third["next"] is None


def test_outlives_a_restart_and_is_pruned_by_age(
    configured_database: None, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(monkeypatch, API_KEYS=API_KEYS) as api:
        api.delete(f"{V1}/cities/1", headers=as_("operate"))
        api.delete(f"{V1}/cities/2", headers=as_("operate"))
    with Plain(database) as plain:
        plain.run("UPDATE audit_log SET at = at - interval '181 days' WHERE path LIKE '%/1'")

    with opened(monkeypatch) as api:
        assert [entry["path"][-1] for entry in entries(api)] == ["2", "1"]
        assert retention.prune("worker")["audit_log"] == 1
        assert [entry["path"][-1] for entry in entries(api)] == ["2"]


def test_strange_addresses_are_written_down_by_what_they_lead_to(locked: Client) -> None:
    for odd in ("a%00b", "%ff%fe", "x" * 2000, KEYS["operate"], "postgres:%2F%2Fme:hidden%40word@host", "7%0a"):
        assert locked.delete(f"{V1}/cities/{odd}", headers=as_("admin")).status_code in (404, 422)
    assert locked.post("/api/v1/nowhere", headers=as_("admin")).status_code == 404
    locked.delete(f"{V1}/cities/-7", headers=as_("admin"))

    paths = [entry["path"] for entry in entries(locked)]

    assert paths[0] == "/api/v1/cities/-7"
    assert {*paths[1:]} <= {"/api/v1/cities/{city_id}", "/api/v1/cities/7"}


def test_refusals_of_one_kind_are_one_entry_and_a_count(
    configured_database: None, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(monkeypatch, API_KEYS=API_KEYS, RATE_LIMIT_PER_SECOND="0") as api:
        for number in range(200):
            is_problem(api.delete(f"{V1}/cities/{number}"), 401)
            is_problem(api.delete(f"{V1}/cities/{number}", headers={"X-API-Key": f"wrong-{number}"}), 401)
            is_problem(api.delete(f"{V1}/cities/{number}", headers=as_("read")), 403)
        assert len(entries(api)) == 3
    with Plain(database) as plain:
        counted = plain.column("SELECT detail FROM audit_log WHERE detail LIKE '%%(199 more like this one)' ORDER BY 1")
        assert [detail.partition(" (")[0] for detail in counted] == [
            "the API key is wrong",
            "this needs an API key, as X-API-Key or as Authorization: Bearer",
            "this needs the role operate; the key 'the-read' has the role read",
        ]
        assert plain.one("SELECT count(*) FROM audit_log") == 6


def test_without_keys_failures_are_counted_and_each_change_is_written_down(
    configured_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(monkeypatch, API_KEY="", API_KEYS="", RATE_LIMIT_PER_SECOND="0") as api:
        for number in range(50):
            is_problem(api.delete(f"{V1}/cities/{number + 1_000}"), 404)
            assert api.post(f"{V1}/cities", json={"name": "a"}).status_code == 201
        statuses = [entry["status"] for entry in api.get(LOG, params={"limit": 500}).json()["items"]]
    assert (statuses.count(201), statuses.count(404)) == (50, 1)


def test_nothing_is_lost_while_the_database_is_away(
    locked: Client, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, away = audit_log.write, [True]

    def broken(entries: Any) -> None:
        if away[0]:
            raise db.DatabaseAway
        write(entries)

    monkeypatch.setattr(audit_log, "write", broken)
    is_problem(locked.delete(f"{V1}/cities/1", headers=as_("operate")), 404)
    away[0] = False

    until(lambda: [entry["path"] for entry in entries(locked, name="the-operate")] == ["/api/v1/cities/1"], 5)


def test_what_the_table_never_took_is_in_the_log(
    configured_database: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(entries: Any) -> None:
        raise db.DatabaseAway

    with opened(monkeypatch, API_KEYS=API_KEYS) as api:
        monkeypatch.setattr(audit_log, "write", broken)
        api.delete(f"{V1}/cities/7", headers=as_("operate"))

    lost = next(line for line in capsys.readouterr().err.splitlines() if "audit: an entry" in line)
    assert "audit_name=the-operate" in lost
    assert "audit_path=/api/v1/cities/7" in lost


def test_open_in_development_without_keys_and_written_down_all_the_same(
    configured_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(monkeypatch, API_KEY="", API_KEYS="") as api:
        assert api.post(f"{V1}/cities", json={"name": "a"}).status_code == 201
        found = api.get(LOG).json()["items"]
    assert [(entry["name"], entry["status"]) for entry in found] == [(None, 201)]


def test_without_keys_no_page_of_another_site_changes_anything(
    configured_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(monkeypatch, API_KEY="", API_KEYS="") as api:
        for origin in ("https://elsewhere.example", "http://localhost:81", "null"):
            is_problem(api.post(f"{V1}/cities", json={"name": "a"}, headers={"Origin": origin}), 403)
        own = {"Origin": "http://localhost"}
        assert api.post(f"{V1}/cities", json={"name": "a"}, headers=own).status_code == 201


def test_refuses_bodies_that_are_too_large(locked: Client) -> None:
    large = b'{"name": "' + b"a" * 2**20 + b'"}'

    def in_pieces() -> Iterator[bytes]:
        for start in range(0, len(large), 10_000):
            yield large[start : start + 10_000]

    is_problem(locked.post(f"{V1}/cities", content=large, headers=as_("operate")), 413)
    is_problem(locked.post(f"{V1}/cities", content=in_pieces(), headers=as_("operate")), 413)
    assert locked.post(f"{V1}/cities", json={"name": "a"}, headers=as_("operate")).status_code == 201


def test_refuses_callers_that_are_too_quick(configured_database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch, API_KEYS=API_KEYS, RATE_LIMIT_PER_SECOND="2") as api:
        answers = [api.get(f"{V1}/cities") for _ in range(6)]
        assert [answer.status_code for answer in answers[:4]] == [200] * 4
        refused = answers[5]
        is_problem(refused, 429)
        assert refused.headers["retry-after"] == "1"
        assert api.get(f"{V1}/cities", headers=as_("read")).status_code == 200, "a key has a limit of its own"
        assert all(api.get(path).status_code == 200 for path in ("/health/live", "/metrics") for _ in range(6))


def test_every_answer_tells_browsers_to_be_careful(locked: Client) -> None:
    for path in ("/health/live", f"{V1}/cities", f"{V1}/nowhere", f"{V1}/audit-log", "/metrics", "/docs", "/"):
        headers = locked.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert locked.get(f"{V1}/events/dead-letters", headers=as_("read")).headers["cache-control"] == "no-store"
