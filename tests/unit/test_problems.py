"""A fault anywhere in the API is a problem to whoever asked, never a bare 500."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.middleware import Middleware

from backend.app.main import create_app
from tests.integration.api import is_problem

MIDDLEWARES = [middleware.cls for middleware in create_app().user_middleware]  # the outermost first


class FaultyMiddleware:
    """A middleware that fails."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, *_: Any) -> None:
        raise ValueError("a fault of ours, with a secret")


@pytest.mark.parametrize("place", range(1, len(MIDDLEWARES) + 1))
def test_a_fault_between_any_two_middlewares_is_a_problem(place: int) -> None:
    app = create_app()
    app.user_middleware.insert(place, Middleware(FaultyMiddleware))
    answer = TestClient(app, base_url="http://localhost", raise_server_exceptions=False).get("/health/live")
    assert "secret" not in str(is_problem(answer, 500))
