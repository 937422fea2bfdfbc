"""Deletions that touch many rows: the answer comes in time and says how it goes, and nothing is ever half deleted."""

from __future__ import annotations

import threading
from typing import Any, Final
from uuid import uuid4

import pytest

from backend.app.catalog import removal
from backend.app.ledger import ledger
from backend.app.ledger.lifeline import GONE, Lifeline
from tests import catalogs
from tests.integration.api import V1, Client
from tests.plain import Plain
from tests.waiting import until

SOME: Final = 20_000
MANY: Final = 100_000
of_many = pytest.mark.parametrize("large", [MANY], indirect=True)


@pytest.fixture
def large(plain: Plain, request: pytest.FixtureRequest) -> Plain:
    """A city with many companies, one of them with many products; deleting either takes longer than a request may."""
    many = (getattr(request, "param", SOME),)
    plain.run("INSERT INTO cities (id, name) VALUES (1, 'c'), (2, 'd')")
    plain.run("INSERT INTO companies (id, name, city_id) SELECT n, 'c', 1 FROM generate_series(1, %s) AS n", many)
    plain.run("INSERT INTO products (id, company_id, name) SELECT n, 1, 'p' FROM generate_series(1, %s) AS n", many)
    plain.run("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(5); RETURN NULL; END $$;
        CREATE TRIGGER slow AFTER DELETE ON products FOR EACH STATEMENT EXECUTE FUNCTION slow();
        CREATE TRIGGER slow AFTER UPDATE OF city_id ON companies FOR EACH STATEMENT EXECUTE FUNCTION slow()""")
    catalogs.no_events(plain)
    return plain


def answered(api: Client, path: str) -> Any:
    """The answer to a deletion; whether it came in time is seen by what is still there afterwards."""
    return api.delete(V1 + path)


def ended(api: Client, answer: Any, seconds: float = 30) -> dict[str, Any]:
    run: dict[str, Any] = {}

    def has_ended() -> bool:
        run.update(api.get(answer.json()["status_url"]).json())
        return run["state"] not in ("PENDING", "STARTED")

    until(has_ended, seconds)
    return run


@of_many
@pytest.mark.parametrize(("path", "left"), [("/companies/1", (MANY - 1, 0)), ("/cities/1", (MANY, MANY))])
def test_a_large_deletion_goes_on_as_a_run_and_is_seen_as_a_whole(
    api: Client, large: Plain, path: str, left: tuple[int, int]
) -> None:
    answer = answered(api, path)

    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["status_url"]
    assert api.get(V1 + path).status_code == 200
    assert large.one("SELECT count(*) FROM event_outbox") == 0
    again = answered(api, path)
    assert again.json() == answer.json()

    assert ended(api, answer)["state"] == "SUCCESS"
    assert api.get(V1 + path).status_code == 404
    assert large.all("SELECT (SELECT count(*) FROM companies), (SELECT count(*) FROM products)") == [left]
    assert large.one("SELECT count(*) FROM event_outbox") == MANY + 1
    assert answered(api, path).status_code == 404


def test_a_large_deletion_that_is_done_in_time_is_answered_as_any_other(api: Client, large: Plain) -> None:
    large.run("DROP TRIGGER slow ON products; DELETE FROM products WHERE id > 2100")
    large.run("UPDATE companies SET is_active = false WHERE id = 1")

    assert answered(api, "/companies/1").status_code in (202, 204)
    until(lambda: not large.one("SELECT count(*) FROM products"), 30)


def test_a_deletion_whose_process_ends_deletes_nothing_and_its_run_says_so(api: Client, large: Plain) -> None:
    answer = answered(api, "/companies/1")
    run = answer.json()["task_id"]
    large.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'citycache run ' || %s", (run,)
    )

    failed = ended(api, answer)

    assert failed["state"] == "FAILURE"
    assert failed["error"].startswith("nothing was deleted")
    assert large.one("SELECT count(*) FROM products") == SOME


def test_the_lifeline_leaves_a_deletion_alone_and_ends_one_without_a_process(api: Client, large: Plain) -> None:
    answer = answered(api, "/companies/1")
    lost = str(uuid4())
    ledger.announce(lost, "delete_company", "api", {"id": "7"})
    ledger.begin(lost, "delete_company", "api", {})
    lifeline = Lifeline(lambda task_ids: set(), lambda: None, grace=0.0)

    assert [run.task_id for run in lifeline.run_once()] == [lost]

    assert api.get(f"{V1}/celery/tasks/{lost}").json()["error"] == GONE
    assert ended(api, answer)["state"] == "SUCCESS"


def test_more_large_deletions_than_fit_are_asked_to_come_again(
    api: Client, large: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_slots", threading.BoundedSemaphore(1))
    first = answered(api, "/companies/1")

    assert answered(api, "/cities/1").status_code == 503

    ended(api, first)
    second = answered(api, "/cities/1")
    assert second.status_code == 202
    ended(api, second)


@of_many
def test_a_large_company_moves_and_is_switched_off_at_once(api: Client, large: Plain) -> None:
    for change in ({"city_id": 2}, {"is_active": False}):
        large.run("DROP TRIGGER IF EXISTS slow ON companies")
        assert api.patch(f"{V1}/companies/1", json=change).status_code == 200
