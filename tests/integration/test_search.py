"""Search: what a few letters may mean, from real rows, bounded in size and time."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from backend.app.console import search
from backend.app.settings import settings
from tests.catalogs import small
from tests.integration.api import V1, Client, is_problem
from tests.plain import Plain

LARGE = 2**53 + 1
RUN = "2b81ef38-f720-43b1-925f-60b234fab29a"


def hits(api: Client, text: str) -> list[tuple[str, str, str | None]]:
    """Kind, id and name of what is found."""
    return [(hit["kind"], hit["id"], hit["name"]) for hit in api.read("/console/search", q=text)["items"]]


def test_finds_names_by_how_they_begin_in_capitals_or_not(api: Client, plain: Plain) -> None:
    plain.run("INSERT INTO cities (id, name) VALUES (1, 'Berlin'), (2, 'Bern'), (3, 'New Berlin'), (4, 'München')")

    assert hits(api, "BER") == [("city", "1", "Berlin"), ("city", "2", "Bern")]
    assert hits(api, "berl") == [("city", "1", "Berlin")]
    assert hits(api, "mü") == [("city", "4", "München")]
    assert hits(api, "erlin") == []


def test_finds_a_name_of_any_length(api: Client, plain: Plain) -> None:
    name = "".join(chr(ord("a") + n % 26) for n in range(10_000))
    plain.run("INSERT INTO cities (id, name) VALUES (7, %s)", (name,))
    for letters in (3, 99, 100, 101, 150):
        assert [hit[:2] for hit in hits(api, name[:letters])] == [("city", "7")]


@pytest.mark.parametrize("text", ["100%", "a_b", "back\\slash", "<b>'\"", "';--"])
def test_takes_each_letter_as_it_is(api: Client, plain: Plain, text: str) -> None:
    plain.run("INSERT INTO cities (id, name) VALUES (1, %s), (2, '100 x'), (3, 'axb')", (text,))

    assert hits(api, text) == [("city", "1", text)]


def test_finds_rows_by_id_and_external_id_whatever_they_are(api: Client, plain: Plain) -> None:
    small(plain)
    plain.run("INSERT INTO products (id, company_id, name, external_id) VALUES (%s, 10, 'large', 'ext/1')", (LARGE,))
    plain.run("UPDATE companies SET external_id = '100' WHERE id = 20")

    assert hits(api, str(LARGE)) == [("product", str(LARGE), "large")]
    assert hits(api, " ext/1 ") == [("product", str(LARGE), "large")]
    assert hits(api, "100") == [("company", "20", "y"), ("product", "100", "p")]
    assert hits(api, str(2**63)) == []


def test_finds_runs_by_how_their_id_begins(api: Client, plain: Plain) -> None:
    plain.run(
        "INSERT INTO task_runs (task_id, task, trigger, state) VALUES (%s, 'refresh_all_caches', 'api', 'FAILURE')",
        (RUN,),
    )

    for text in (RUN, RUN[:10], RUN[:8].upper()):
        (hit,) = api.read("/console/search", q=text)["items"]
        assert (hit["kind"], hit["id"], hit["name"], hit["state"]) == ("run", RUN, "refresh_all_caches", "FAILURE")
    assert hits(api, "2b81e") == []


def test_finds_events_that_wait_that_were_applied_and_that_were_set_aside(api: Client, plain: Plain) -> None:
    small(plain)
    waiting = plain.one("SELECT event_id::text FROM event_outbox WHERE subject = 'product/100'")
    assert hits(api, waiting) == [("event", waiting, "product/100")]

    plain.run("DELETE FROM event_outbox")
    patch = "INSERT INTO patches (task, task_id, subjects, event_ids) VALUES ('x', %s, '{company/10,product/100}', %s)"
    plain.run(patch, (RUN, [None, waiting]))
    (applied,) = api.read("/console/search", q=waiting.upper())["items"]
    assert (applied["name"], applied["task_id"]) == ("product/100", RUN)

    buried = "11111111-2222-3333-4444-555555555555"
    plain.run(
        "INSERT INTO dead_letters (kind, reason, subject, event_id) VALUES ('failed', 'no', 'company/9', %s)", (buried,)
    )
    assert hits(api, buried) == [("event", buried, "company/9")]


def test_answers_a_few_of_each_kind(api: Client, plain: Plain) -> None:
    plain.run("INSERT INTO cities (name) SELECT 'many ' || n FROM generate_series(1, 100) AS n")

    assert len(hits(api, "many")) == search.LIMIT


def test_names_what_could_not_be_looked_through_in_time(api: Client, database: str, plain: Plain) -> None:
    small(plain)
    with closing(Plain(database, autocommit=False)) as holder:
        holder.run("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        found: dict[str, Any] = api.read("/console/search", q="x")

    assert found["incomplete"] == ["product"]
    assert [(hit["kind"], hit["name"]) for hit in found["items"]] == [("company", "x")]


@pytest.mark.parametrize("text", ["", " ", "\x00", "x" * 301])
def test_refuses_what_cannot_be_meant(api: Client, text: str) -> None:
    is_problem(api.get(f"{V1}/console/search", params={"q": text}), 422)


def test_a_key_that_may_read_is_enough_and_needed(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "the key of this test")
    monkeypatch.setenv("API_KEYS", "looker:read:a-key-that-may-only-read")
    settings.cache_clear()

    is_problem(api.get(f"{V1}/console/search", params={"q": "x"}), 401)
    headers = {"X-API-Key": "a-key-that-may-only-read"}
    assert api.get(f"{V1}/console/search", params={"q": "x"}, headers=headers).status_code == 200
