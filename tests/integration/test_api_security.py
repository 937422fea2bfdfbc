"""Who may do what: with a key, without one, in production."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from backend.app.settings import settings
from tests.integration.api import V1, Client, client, is_problem

KEY = "c2VjcmV0IGtleSBvZiB0aGUgdGVzdHM"
GUARDED = (
    ("POST", "/cities"), ("PATCH", "/cities/1"), ("DELETE", "/cities/1"),
    ("POST", "/companies"), ("PATCH", "/companies/1"), ("DELETE", "/companies/1"),
    ("POST", "/products"), ("PATCH", "/products/1"), ("DELETE", "/products/1"),
    ("POST", "/celery/tasks/update-product-city-cache"), ("POST", "/celery/tasks/update-company-city-cache"),
    ("POST", "/celery/tasks/update-cities-product-count"), ("POST", "/celery/tasks/refresh-all-caches"),
    ("POST", "/celery/tasks/clear-all-caches"), ("POST", "/celery/tasks/replay-events"),
    ("POST", "/celery/tasks/rebuild-city/1"),
    ("GET", "/events/dead-letters"), ("POST", "/events/dead-letters/requeue"),
)  # fmt: skip
OPEN = (
    "/api/v1/cities", "/api/v1/companies", "/api/v1/products", "/api/v1/celery/tasks", "/health/live", "/docs",
    "/openapi.json", "/metrics", "/api/v1/caches/active-cities/products",
)  # fmt: skip


@pytest.fixture
def with_settings(configured_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("OBSERVER", "false")
    yield monkeypatch
    settings.cache_clear()


def open_client(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[Client]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    with client() as api:
        yield api


@pytest.fixture
def locked(with_settings: pytest.MonkeyPatch) -> Iterator[Client]:
    yield from open_client(with_settings, API_KEY=KEY)


@pytest.fixture
def production_without_key(with_settings: pytest.MonkeyPatch) -> Iterator[Client]:
    yield from open_client(with_settings, APP_ENV="production", API_KEY="")


def test_asks_for_the_key_where_something_changes_or_is_secret(locked: Client) -> None:
    for method, path in GUARDED:
        for headers in (
            {},
            {"X-API-Key": "wrong"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {KEY}"},
        ):
            answer = locked.request(method, V1 + path, headers=headers, content=b"{")
            is_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert locked.get(f"{V1}/cities").json()["items"] == []


def test_takes_the_key_in_both_headers(locked: Client) -> None:
    for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}):
        assert locked.post(f"{V1}/cities", json={"name": "a"}, headers=headers).status_code == 201
        assert locked.get(f"{V1}/events/dead-letters", headers=headers).status_code == 200


def test_survives_a_key_of_any_bytes(locked: Client) -> None:
    is_problem(locked.post(f"{V1}/cities", headers={"X-API-Key": b"\xff\xfe"}), 401)


def test_lets_everybody_read(locked: Client, production_without_key: Client) -> None:
    for api in (locked, production_without_key):
        for path in OPEN:
            assert api.get(path).status_code == 200, path


def test_closes_guarded_endpoints_in_production_without_a_key(production_without_key: Client) -> None:
    for method, path in GUARDED:
        assert "API_KEY" in is_problem(production_without_key.request(method, V1 + path), 403)["detail"]


def test_says_in_the_documentation_which_endpoints_need_the_key(locked: Client) -> None:
    described = locked.get("/openapi.json").json()["paths"]
    marked = set()
    for path, methods in described.items():
        for method, operation in methods.items():
            refused = locked.request(method, path.replace("{", "").replace("}", "")).status_code == 401
            assert refused == bool(operation.get("security")), (method, path)
            if refused:
                marked.add((method.upper(), re.sub(r"\{.*?\}", "1", path).removeprefix(V1)))
                assert {"401", "403", "503"} <= set(operation["responses"])
    assert set(GUARDED) <= marked


GUESSES = (
    "/nowhere/{0}",
    "/celery/tasks/{0}",
    "/caches/explain/product/{0}",
    "/cities/{0}",
    "/products?{0}=1&kind={0}",
)


def test_a_guessed_secret_comes_back_like_any_other_word(locked: Client) -> None:
    for path in GUESSES:
        for method in ("GET", "POST"):
            asked = {word: V1 + path.format(word) for word in (KEY, KEY[::-1])}
            answers = {word: locked.request(method, asked[word], headers={"X-API-Key": KEY}) for word in asked}
            assert len({answer.text.replace(word, "") for word, answer in answers.items()}) == 1, (method, path)


def test_problems_are_short_whatever_was_sent(locked: Client) -> None:
    for path in (f"/{'é' * 300}/{'x' * 5_000}", f"/cities?after={'y' * 5_000}&sort={'z' * 5_000}"):
        answer = locked.get(V1 + path)
        assert answer.status_code in (404, 414, 422)
        assert len(answer.content) < 8_000
