"""Rows with the extremes of their types: whatever PostgreSQL keeps is read, and no row keeps others from being read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import httpx2
import pytest
from starlette.types import ASGIApp

from tests.integration.api import V1, Client, client, patch_all
from tests.plain import Plain

TIMES: Final = (
    "infinity", "-infinity", "294276-12-31 23:59:59.999999+00", "10000-01-01 00:00:00+00", "4714-11-24 00:00:00+00 BC",
)  # fmt: skip
COLUMNS: Final = """
    SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables
     USING (table_schema, table_name)
     WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND data_type = 'timestamp with time zone'
     ORDER BY 1, 2"""
READS: Final = (
    "/cities", "/cities/tree", "/cities/1", "/cities/1/products", "/cities/1/companies", "/companies", "/companies/1",
    "/products", "/products/1", "/caches/active-cities/products", "/caches/active-cities/companies",
    "/caches/explain/product/1", "/caches/explain/company/1", "/caches/explain/city/1", "/celery/tasks?state=SUCCESS",
    "/celery/tasks?state=FAILURE", "/celery/tasks", "/events/dead-letters", "/events/dead-letters/reasons",
    "/incidents", "/audit-log", "/console/history", "/console/history?hours=168", "/console/spans",
    "/console/cities", "/console/search?q=c",
)  # fmt: skip


@pytest.fixture
def api(plain: Plain, configured: None) -> Iterator[Client]:
    """One row, at least, of everything that is read."""
    plain.run("INSERT INTO cities (id, name) VALUES (1, 'c')")
    plain.run("INSERT INTO companies (id, name, city_id) VALUES (1, 'c', 1)")
    plain.run("INSERT INTO products (id, name, company_id) VALUES (1, 'p', 1)")
    plain.run("INSERT INTO dead_letters (kind, reason) VALUES ('unreadable', 'r')")
    plain.run("INSERT INTO incidents (kind, began_at, values) VALUES ('broker_alarm', now(), '{}')")
    plain.run("INSERT INTO audit_log (method, path, status) VALUES ('POST', '/', 200)")
    plain.run("INSERT INTO audit_findings (cache, key, side) VALUES ('products', '1', 'missing')")
    for state in ("SUCCESS", "FAILURE", "STARTED"):
        plain.run(
            "INSERT INTO task_runs (task_id, task, trigger, state) VALUES (gen_random_uuid(), 'replay', 'cli', %s)",
            [state],
        )
    with client() as open_client:
        patch_all(plain, str(uuid4()))
        yield open_client


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def unread(api: Client) -> list[tuple[str, int, str]]:
    """What is not answered with 200 and JSON that a browser takes."""
    assert api.portal is not None
    found = []
    for path, status, text in api.portal.call(read_twice, api.app):
        try:
            json.loads(text, parse_constant=refuse)
            is_well = status == 200
        except ValueError:
            is_well = False
        if not is_well:
            found.append((path, status, text[:200]))
    return found


async def read_twice(app: ASGIApp) -> list[tuple[str, int, str]]:
    """Path, status and text of each of READS, twice: the second time by what is remembered.

    On the event loop of the API itself: to go there and back takes more than the answer.
    """
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        answers = [await client.get(V1 + path) for path in READS for _ in range(2)]
    return [(answer.url.path, answer.status_code, answer.text) for answer in answers]


@pytest.mark.parametrize("instant", TIMES)
def test_a_time_that_no_calendar_has_is_read_wherever_it_stands(api: Client, plain: Plain, instant: str) -> None:
    assert unread(api) == []
    for table, column in plain.all(COLUMNS):
        plain.run(f"UPDATE {table} SET {column} = %s WHERE ctid = (SELECT ctid FROM {table} LIMIT 1)", [instant])
        assert unread(api) == [], (table, column)


@pytest.mark.parametrize("place", ["NaN", "Infinity", "-Infinity", "1e308", "5e-324", "-0"])
def test_a_place_that_is_none_leaves_others_on_the_map(api: Client, plain: Plain, place: str) -> None:
    plain.run("INSERT INTO cities (id, name, latitude, longitude) VALUES (2, 'd', 1, 2)")
    plain.run("UPDATE cities SET latitude = %s::float8, longitude = %s::float8 WHERE id = 1", [place, place])

    assert unread(api) == []
    rows: Any = {row[0]: row[1:4] for row in api.read("/console/cities")["rows"]}
    assert rows["2"] == ["d", 1, 2]


def test_a_name_of_any_length_is_written_and_shown_by_its_beginning(api: Client, plain: Plain) -> None:
    for table in ("cities", "companies", "products"):  # letters that no compression makes fewer
        plain.run(
            f"UPDATE {table} SET name = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 20000) AS n)"
        )
    assert len(json.dumps(api.read("/console/cities"))) < 1_000
