"""A client of the API in this process, and short words for what tests of the API do all the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx2
import pytest
from fastapi.testclient import TestClient

from backend.app.api.reading.sessions import Session
from backend.app.caches.apply import apply
from backend.app.caches.keys import Cause, Keys
from backend.app.main import create_app
from tests.plain import Plain

V1 = "/api/v1"
PATIENCE: Final = 20.0  # seconds for an answer where a test asks what it says, not how soon it comes


class Words(httpx2.Client):
    """Paths are those below /api/v1."""

    def post_ok(self, path: str, **body: Any) -> dict[str, Any]:
        """Create something; its answer."""
        answer = self.post(V1 + path, json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def read(self, path: str, **query: Any) -> dict[str, Any]:
        """Read something that is there."""
        answer = self.get(V1 + path, params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def told(self, path: str) -> tuple[int, Any]:
        """Status and body of an answer, without what a refusal says of itself."""
        found = self.get(V1 + path)
        return found.status_code, found.json() if found.status_code == 200 else None

    def pages(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Follow `next` to the end; all items."""
        page = self.read(path, **query)
        items = list(page["items"])
        while page["next"]:
            page = dict(self.get(page["next"]).json())
            items += page["items"]
        return items


class Client(Words, TestClient):
    """A client of an API in this process."""


@contextmanager
def client(seconds: float = PATIENCE) -> Iterator[Client]:
    """A client on the configured database, answered within `seconds`; failures inside come back as answers."""
    with Client(create_app(seconds), base_url="http://localhost", raise_server_exceptions=False) as open_client:
        yield open_client


def asked_of_tables(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of reads that are put to the database from now on."""
    found: list[str] = []
    run = Session._run

    def noted(session: Session, cursor: Any, statement: str, parameters: Any) -> None:
        found.append(statement)
        run(session, cursor, statement, parameters)

    monkeypatch.setattr(Session, "_run", noted)
    return found


def patch_all(plain: Plain, event: str | None = None) -> None:
    """Make the caches right, as the worker would."""
    keys = Keys(
        plain.column("SELECT id FROM products UNION SELECT product_id FROM product_city_mapping ORDER BY 1"),
        plain.column("SELECT id FROM companies UNION SELECT company_id FROM company_city_mapping ORDER BY 1"),
        plain.column("SELECT id FROM cities UNION SELECT city_id FROM city_counts ORDER BY 1"),
    )
    events = {f"product/{key}": event for key in keys.products} if event else {}
    apply(keys, Cause("apply_catalog_events", "3f333df6-90a4-4fda-8dd3-9485d27cee36", events))
    plain.run("DELETE FROM event_outbox")


def is_problem(answer: Any, status: int) -> dict[str, Any]:
    """Problem details of this status, as the contract wants them."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = dict(answer.json())
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body
