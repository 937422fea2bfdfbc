"""Which role a request needs depends on the route that it reaches, however its address is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Match

from backend.app.api import security
from backend.app.main import create_app
from backend.app.settings import settings
from tests.integration.api import Client, client, is_problem
from tests.plain import Plain

KEY: Final = "c2VjcmV0IGtleSBvZiB0aGUgdGVzdHM"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "Delete")
ENDS: Final = ("", "/", "//", "%0a", "%0A", "%0d%0a", "%00", "%20", "%2f", "?", "?x=%0a", ";x", "/.", "/%2e%2e", "%23")
SECRET: Final = (
    "/api/v1/events/dead-letters",
    "/api/v1/audit-log",
    "/api/v1/console/search",
)  # reading them needs a key


@pytest.fixture
def locked(configured_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("OBSERVER", "false")
    monkeypatch.setenv("API_KEY", KEY)
    monkeypatch.setenv("RATE_LIMIT_PER_SECOND", "0")
    settings.cache_clear()
    with client() as api:
        yield api


def routes(app: Any) -> list[tuple[str, str]]:
    """(method, address) of all of them, with 1 for each parameter."""
    found = []
    for context in iter_route_contexts(app.router.routes):
        if methods := getattr(context, "methods", None):
            address = "/".join("1" if part.startswith("{") else part for part in context.path.split("/"))
            found += [(method, address) for method in sorted(methods)]
    return found


def variants(address: str) -> Iterator[str]:
    yield from (address + end for end in ENDS)
    yield from (address.replace("/", "//"), "/." + address, "/x/.." + address, address.upper(), address.title())
    head, _, last = address.rpartition("/")
    yield from (f"{head}%2f{last}", f"{head}/%{ord(last[:1] or 'x'):02x}{last[1:]}", f"//evil.example{address}")


def reached(app: Any, method: str, path: str) -> Any:
    """The route that the router chooses."""
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": [], "app": app}
    for context in iter_route_contexts(app.router.routes):
        if context.matches(dict(scope))[0] == Match.FULL:
            return context
    return None


def test_no_way_of_writing_an_address_reaches_a_guarded_endpoint_without_a_key(locked: Client, plain: Plain) -> None:
    chosen: list[tuple[str, str]] = []
    tried = {(method, address) for _, address in routes(locked.app) for method in METHODS}
    guarded = [(method, address) for method, address in routes(locked.app) if method != "GET" or address in SECRET]
    tried |= {(method, variant) for method, address in guarded for variant in variants(address)}
    for method, variant in sorted(tried):
        if "console/stream" in variant.lower() and method in ("GET", "HEAD"):
            continue  # never ends
        answer = locked.request(method, f"http://localhost{variant}", follow_redirects=False)
        path = answer.request.url.path
        as_seen = "GET" if method == "HEAD" else method
        route = reached(locked.app, as_seen, path)
        if route is not None and (as_seen != "GET" or path.startswith(SECRET)):
            is_problem(answer, 401) if method != "HEAD" else None
            assert answer.status_code == 401, (method, variant)
            chosen.append((method, variant))
        elif as_seen not in ("GET", "OPTIONS"):
            assert answer.status_code in (307, 401, 404, 405), (method, variant)
    assert ("POST", "/api/v1/celery/tasks/clear-all-caches%0a") in chosen
    assert plain.one("SELECT count(*) FROM task_runs") + plain.one("SELECT count(*) FROM cities") == 0


def test_a_route_that_changes_something_cannot_be_made_without_a_role() -> None:
    router = security.router()
    with pytest.raises(TypeError, match="needs a role"):
        router.post("/x")(lambda: None)


def test_every_route_of_the_api_that_changes_something_is_guarded() -> None:
    for context in iter_route_contexts(create_app().router.routes):
        route: Any = context.original_route if hasattr(context, "original_route") else context
        if not {"GET", "HEAD"} >= set(getattr(route, "methods", None) or ()):
            assert isinstance(route, security.GuardedRoute), route
            assert route.role is not None, route


def test_addresses_that_lead_nowhere_are_not_written_down(locked: Client, plain: Plain) -> None:
    for path in ("/api/v1/nowhere", "/api/v1/a%00b", "/x" * 200, "/api/v1/cities/1/2/3"):
        is_problem(locked.post(path), 404)
    assert plain.one("SELECT count(*) FROM audit_log") == 0


def test_head_is_answered_wherever_get_is(locked: Client) -> None:
    for method, address in routes(locked.app):
        if method != "GET" or address.endswith("/stream"):
            continue
        got = locked.get(address, headers={"X-API-Key": KEY})
        headed = locked.head(address, headers={"X-API-Key": KEY})
        assert (headed.status_code, headed.content) == (got.status_code, b""), address
        assert headed.headers.keys() ^ got.headers.keys() <= {"content-length"}, address
        assert headed.headers.get("content-type") == got.headers.get("content-type")


def test_options_says_what_an_address_takes(locked: Client) -> None:
    assert locked.options("/api/v1/cities").headers["allow"] == "GET, POST, HEAD, OPTIONS"
    assert locked.options("/api/v1/cities/1").headers["allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"
    assert locked.options("/health/live").status_code == 204
    refused = locked.put("/api/v1/cities", json={})
    is_problem(refused, 405)
    assert refused.headers["allow"] == "GET, POST, HEAD, OPTIONS"
    is_problem(locked.options("/nowhere"), 404)
