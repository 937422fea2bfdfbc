"""Log lines: one a record, as text or JSON, without secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from backend.app.settings import settings
from backend.app.telemetry import logs


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("API_KEY", "k3y-of-the-api")
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone:p%40ss-of-db@db/citycache")
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://admin:w0rd-of-rabbit@one//;amqp://admin:other-w0rd@two//")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("connecting to postgresql://someone:anything@db/citycache", "anything"),
        ("connecting to amqp://guest:x@y:5672//", ":x@"),
        ("X-API-Key: abc-def", "abc-def"),
        ("{'x-api-key': 'abc-def'}", "abc-def"),
        ("GET /api/v1/cities?api_key=abc-def&limit=1", "abc-def"),
        ("Authorization: Bearer abc-def", "abc-def"),
        ('{"password":"abc-def"}', "abc-def"),
        ("somebody typed k3y-of-the-api by mistake", "k3y-of-the-api"),
        ("p@ss-of-db and p%40ss-of-db", "ss-of-db"),
        ("w0rd-of-rabbit, other-w0rd", "w0rd"),
    ],
)
def test_masks_secrets(secrets: None, text: str, secret: str) -> None:
    assert secret not in logs.masked(text)
    assert logs.MASK in logs.masked(text)


@pytest.mark.parametrize(
    "text", ["12 keys patched", "http://localhost:8000/docs", "moved from a@b to c", "postgresql://db/x"]
)
def test_leaves_other_text_alone(secrets: None, text: str) -> None:
    assert logs.masked(text) == text


def record(message: str, failure: Exception | None = None, **fields: object) -> logging.LogRecord:
    trace = (type(failure), failure, None) if failure else None
    made = logging.LogRecord("relay", logging.INFO, "", 0, message, (), trace)
    vars(made).update(fields)
    return made


def test_writes_a_sentence_and_its_fields(secrets: None) -> None:
    line = logs.TextLines().format(record("published", rows=3, url="amqp://a:b@c"))
    assert line.endswith("INFO relay: published rows=3 url=amqp://a:***@c")


def test_writes_one_json_object_a_line(secrets: None) -> None:
    failure = ValueError("line one\nline two with k3y-of-the-api")
    line = logs.JsonLines().format(record("published", failure, rows=3, subject="ü"))
    entry = json.loads(line)
    assert "\n" not in line
    assert (entry["level"], entry["logger"], entry["message"], entry["rows"]) == ("INFO", "relay", "published", 3)
    assert entry["subject"] == "ü"
    assert "line two with ***" in entry["traceback"]
