"""Reads of the caches over HTTP: counts, sorting, mappings, active cities, explanations, conditional requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from backend.app.caches.apply import apply
from backend.app.caches.keys import Cause, Keys
from tests.integration.api import V1, Client, is_problem, patch_all
from tests.plain import Plain

SORTS = ("id", "name", "products_count", "services_count", "companies_count")


@pytest.fixture
def catalog(plain: Plain) -> Plain:
    """Three cities: 1 has two companies, three goods, one service; 2 has one company and a service; 3 has nothing."""
    plain.run(
        "INSERT INTO cities (name) VALUES ('b'), ('a'), ('c');"
        "INSERT INTO companies (name, city_id, is_active) VALUES ('x', 1, true), ('y', 1, true), ('z', 2, true),"
        " ('off', 3, false), ('nowhere', NULL, true);"
        "INSERT INTO products (name, company_id, kind) VALUES ('p', 1, 'product'), ('q', 1, 'product'),"
        " ('r', 2, 'product'), ('s', 2, 'service'), ('t', 3, 'service'), ('u', 4, 'product'), ('v', 5, 'product')"
    )
    patch_all(plain)
    return plain


def test_shows_each_city_with_its_counts(api: Client, catalog: Plain) -> None:
    counts = {
        row["id"]: (row["products_count"], row["services_count"], row["companies_count"])
        for row in api.read("/cities")["items"]
    }
    assert counts == {1: (3, 1, 2), 2: (0, 1, 1), 3: (0, 0, 0)}
    assert api.read("/cities/1")["products_count"] == 3


@pytest.mark.parametrize("sign", ["", "-"])
def test_sorts_by_every_column_and_pages_through_ties(api: Client, plain: Plain, sign: str) -> None:
    plain.run(
        "INSERT INTO cities (name) SELECT 'c' || n % 3 FROM generate_series(1, 13) AS n;"
        "INSERT INTO companies (name, city_id) SELECT 'x', 1 + n % 5 FROM generate_series(1, 12) AS n;"
        "INSERT INTO products (name, company_id, kind) SELECT 'p', 1 + n % 12,"
        " CASE n % 3 WHEN 0 THEN 'service' ELSE 'product' END FROM generate_series(1, 30) AS n"
    )
    patch_all(plain)
    plain.run("INSERT INTO cities (name) VALUES ('not counted yet')")
    for by in SORTS:
        rows = api.pages("/cities", sort=sign + by, limit=4)
        keys = [(row[by], row["id"]) for row in rows]
        assert len(rows) == 14
        assert keys == sorted(keys, reverse=bool(sign)), by


def test_refuses_a_cursor_of_another_list(api: Client, catalog: Plain) -> None:
    following = api.read("/cities", sort="name", limit=1)["next"]
    for sort in ("id", "products_count"):
        is_problem(api.get(following.replace("sort=name", f"sort={sort}")), 422)
    is_problem(api.get(f"{V1}/cities?sort=population"), 422)


def test_lists_what_can_be_bought_in_a_city(api: Client, catalog: Plain) -> None:
    rows = api.pages("/cities/1/products", limit=1)
    assert [(row["product_id"], row["name"], row["company_name"]) for row in rows] == [
        (1, "p", "x"), (2, "q", "x"), (3, "r", "y"), (4, "s", "y")
    ]  # fmt: skip
    assert [row["product_id"] for row in api.pages("/cities/1/products", kind="service")] == [4]
    assert [row["name"] for row in api.pages("/cities/1/companies", limit=1)] == ["x", "y"]
    assert api.read("/cities/3/products")["items"] == []
    for path in ("products", "companies"):
        is_problem(api.get(f"{V1}/cities/99/{path}"), 404)


def test_lists_from_the_mapping_not_from_the_catalog(api: Client, catalog: Plain) -> None:
    catalog.run("DELETE FROM products WHERE id = 1")
    first = api.read("/cities/1/products")["items"][0]
    assert (first["product_id"], first["name"]) == (1, None)


def test_shows_active_cities(api: Client, catalog: Plain) -> None:
    for cache, ids in (("products", [1, 2]), ("companies", [1, 2])):
        row = api.read(f"/caches/active-cities/{cache}")
        assert (row["active_city_ids"], row["total_cities"]) == (ids, 2)
        assert (row["total_companies"], row["total_products"]) == (4 - 1, 5)
    is_problem(api.get(f"{V1}/caches/active-cities/services"), 422)


def test_explains_a_cached_product(api: Client, plain: Plain, catalog: Plain) -> None:
    plain.run("UPDATE products SET kind = 'service' WHERE id = 1")
    patch_all(plain, event="5a1d")
    told = api.read("/caches/explain/product/1")
    assert told["subject"] == "product/1"
    assert told["source"]["company"] == {"id": 1, "name": "x", "is_active": True, "city_id": 1}
    assert told["cached"] == {"product_id": 1, "company_id": 1, "city_id": 1, "kind": "service"}
    assert (told["wanted"], told["agrees"], told["pending_events"]) == (told["cached"], True, 0)
    assert told["last_patch"]["task"] == "apply_catalog_events"
    assert told["last_patch"]["task_id"] == "3f333df6-90a4-4fda-8dd3-9485d27cee36"
    assert told["last_patch"]["event_id"] == "5a1d"
    assert datetime.fromisoformat(told["last_patch"]["time"]).tzinfo


def test_explains_a_row_that_differs_and_counts_its_events(api: Client, catalog: Plain) -> None:
    catalog.run("UPDATE products SET is_active = false WHERE id = 1; UPDATE companies SET city_id = 2 WHERE id = 1")
    told = api.read("/caches/explain/product/1")
    assert (told["agrees"], told["wanted"], told["pending_events"]) == (False, None, 2)
    told = api.read("/caches/explain/company/1")
    assert (told["cached"]["city_id"], told["wanted"]["city_id"], told["pending_events"]) == (1, 2, 1)
    told = api.read("/caches/explain/city/2")
    assert (told["cached"]["companies_count"], told["wanted"]["companies_count"]) == (1, 2)
    assert told["agrees"] is False


def test_explains_a_row_that_is_gone(api: Client, catalog: Plain) -> None:
    catalog.run("DELETE FROM products WHERE id = 1; DELETE FROM companies WHERE id = 3")
    patch_all(catalog)
    for path in ("product/1", "company/3", "product/5"):
        told = api.read(f"/caches/explain/{path}")
        assert (told["source"], told["cached"], told["wanted"], told["agrees"]) == (None, None, None, True)
        assert told["last_patch"]["task"] == "apply_catalog_events"
    for path in ("product/99", "company/99", "city/99"):
        is_problem(api.get(f"{V1}/caches/explain/{path}"), 404)


def patched(plain: Plain, event: str | None, sql: str, **keys: list[int]) -> None:
    """Change the catalog and patch these keys, asked for by this event of each, or by a rebuild without any."""
    plain.run(sql)
    events = {f"{noun}/{key}": event for noun, ids in (("product", "products"), ("company", "companies"))
              for key in keys.get(ids, ())} if event else {}  # fmt: skip
    apply(Keys(**keys), Cause("apply_catalog_events" if event else "update_product_city_cache", None, events))


def events(told: dict[str, Any]) -> list[tuple[str | None, str | None]]:
    """Subject and event of each patch, newest first."""
    assert told["last_patch"] == (told["patches"][0] if told["patches"] else None)
    return [(patch["subject"], patch["event_id"]) for patch in told["patches"]]


def test_names_the_last_ten_patches_while_a_row_comes_and_goes(api: Client, catalog: Plain) -> None:
    for number in range(1, 13):
        patched(catalog, f"e{number}", "UPDATE products SET is_active = NOT is_active WHERE id < 3", products=[1, 2])
    told = api.read("/caches/explain/product/1")
    assert events(told) == [("product/1", f"e{number}") for number in range(12, 2, -1)]
    times = [patch["time"] for patch in told["patches"]]
    assert times == sorted(times, reverse=True)


def test_tells_patches_by_own_events_by_the_company_and_by_rebuilds_apart(api: Client, catalog: Plain) -> None:
    patched(catalog, "moved", "UPDATE companies SET city_id = 2 WHERE id = 1", companies=[1])
    patched(catalog, None, "DELETE FROM product_city_mapping WHERE product_id = 2; SELECT 1", products=[1, 2, 3])
    patched(catalog, None, "UPDATE companies SET city_id = 3 WHERE id = 1", companies=[1])
    patched(catalog, 'a "name"\\, {odd}', "UPDATE products SET kind = 'service' WHERE id = 1", products=[1, 3])
    told = api.read("/caches/explain/product/1")
    assert events(told)[:3] == [("product/1", 'a "name"\\, {odd}'), (None, None), ("company/1", "moved")]
    assert told["patches"][1]["task"] == "update_product_city_cache"
    assert len(told["patches"]) == 4  # with the one that made it
    assert events(api.read("/caches/explain/company/1"))[:2] == [(None, None), ("company/1", "moved")]


def test_a_wide_patch_names_the_event_of_its_company(api: Client, catalog: Plain) -> None:
    catalog.run("UPDATE companies SET city_id = 2 WHERE id = 1")
    apply(Keys([1, 2]), Cause("apply_wide_patches", None, {"company/1": "moved"}))
    assert events(api.read("/caches/explain/product/2"))[0] == ("company/1", "moved")


def test_names_no_patch_that_has_been_deleted_and_says_since_when(api: Client, catalog: Plain) -> None:
    for number in range(1, 5):
        patched(catalog, f"e{number}", "UPDATE products SET is_active = NOT is_active WHERE id = 1", products=[1])
    catalog.run("DELETE FROM patches WHERE NOT event_ids && '{e3,e4}'")
    told = api.read("/caches/explain/product/1")
    assert events(told) == [("product/1", "e4"), ("product/1", "e3")]
    assert told["patches_since"] == told["patches"][1]["time"]
    assert events(api.read("/caches/explain/city/1")) == [("product/1", "e4"), ("product/1", "e3")]
    catalog.run("DELETE FROM patches")
    told = api.read("/caches/explain/product/1")
    assert (told["patches"], told["last_patch"], told["patches_since"]) == ([], None, None)


def test_names_the_patches_that_moved_a_citys_counts(api: Client, catalog: Plain) -> None:
    patched(catalog, "both", "UPDATE companies SET city_id = 3 - city_id WHERE id < 4", companies=[1, 2, 3])
    patched(catalog, "moved", "UPDATE products SET company_id = 3 WHERE id < 4", products=[1, 2, 3])
    patched(catalog, "kind", "UPDATE products SET kind = 'service' WHERE id = 1", products=[1])
    assert events(api.read("/caches/explain/city/1"))[:2] == [("product/1", "kind"), ("product/2", "moved")]
    told = api.read("/caches/explain/city/2")
    assert events(told)[0] == (None, None)  # three events, and nothing that one of them put here is here
    assert told["patches"][0]["task"] == "apply_catalog_events"
    for number in range(12):
        patched(catalog, f"e{number}", "UPDATE products SET is_active = NOT is_active WHERE id = 1", products=[1])
    assert [event for _, event in events(api.read("/caches/explain/city/1"))] == [f"e{n}" for n in range(11, 1, -1)]
    assert api.read("/caches/explain/city/1")["agrees"] is True
    assert events(api.read("/caches/explain/city/3")) == [(None, None)]  # the one that made its row of zeros


READS = (
    "/cities", "/cities/1", "/cities/1/products", "/cities/1/companies", "/caches/active-cities/products",
    "/caches/explain/product/1", "/caches/explain/company/1", "/caches/explain/city/1",
)  # fmt: skip


def test_answers_304_to_who_has_it_already(api: Client, catalog: Plain) -> None:
    etags = {path: api.get(V1 + path).headers["etag"] for path in READS}
    for path, etag in etags.items():
        for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
            answer = api.get(V1 + path, headers={"If-None-Match": known})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert api.get(V1 + path, headers={"If-None-Match": '"other"'}).status_code == 200
    catalog.run("UPDATE products SET kind = 'service' WHERE id = 1; UPDATE companies SET name = 'X', is_active = false")
    patch_all(catalog)
    for path, etag in etags.items():
        assert api.get(V1 + path, headers={"If-None-Match": etag}).status_code == 200


def test_says_when_the_cache_was_changed_last(api: Client, catalog: Plain) -> None:
    path = f"{V1}/caches/active-cities/products"
    catalog.run("UPDATE active_cities_cache SET last_updated = '2026-01-31 12:00:00.25Z'")
    assert api.get(path).headers["last-modified"] == "Sat, 31 Jan 2026 12:00:01 GMT"
    assert api.get(f"{V1}/cities").headers["last-modified"]
    for since, status in (
        ("Sat, 31 Jan 2026 12:00:01 GMT", 304),
        ("Sat, 31 Jan 2026 12:00:00 GMT", 200),
        ("yesterday", 200),
        (format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True), 304),
    ):
        assert api.get(path, headers={"If-Modified-Since": since}).status_code == status
    both = {"If-Modified-Since": "Sat, 31 Jan 2026 12:00:01 GMT", "If-None-Match": '"other"'}
    assert api.get(path, headers=both).status_code == 200


def test_does_not_call_a_second_settled_while_it_runs(api: Client, catalog: Plain) -> None:
    """Two changes within one second must not look like one to who asks by date."""
    path = f"{V1}/caches/active-cities/products"
    catalog.run("UPDATE active_cities_cache SET last_updated = clock_timestamp()")
    since = api.get(path).headers["last-modified"]
    catalog.run("UPDATE active_cities_cache SET total_products = 9, last_updated = clock_timestamp()")
    assert api.get(path, headers={"If-Modified-Since": since}).status_code == 200


def test_shows_cities_with_ids_below_zero_like_others(api: Client, plain: Plain) -> None:
    plain.run("INSERT INTO cities (id, name) VALUES (-1, 'canary'), (-7, 'b'), (0, 'c')")
    assert [city["id"] for city in api.read("/cities")["items"]] == [-7, -1, 0]
