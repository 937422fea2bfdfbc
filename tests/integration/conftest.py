"""Fixtures of the tests that go through the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.app.settings import settings
from tests.integration.api import Client, client
from tests.plain import Plain


@pytest.fixture
def api(configured_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of the API on the test's database; nobody else changes anything."""
    monkeypatch.setenv("OBSERVER", "false")
    monkeypatch.setenv("ALLOWED_HOSTS", "testserver")  # as tools call an application in their own process
    settings.cache_clear()
    with client() as open_client:
        yield open_client


@pytest.fixture
def plain(database: str) -> Iterator[Plain]:
    """Plain SQL on the test's database."""
    with Plain(database) as connection:
        yield connection
