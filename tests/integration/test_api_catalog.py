"""The catalog over HTTP: each status code, each rule of validation, paging."""

from __future__ import annotations

import itertools
from typing import Any

from tests.integration.api import V1, Client, is_problem
from tests.plain import Plain

BIG = 2**63


def test_creates_reads_changes_and_deletes_each_noun(api: Client) -> None:
    city = api.post_ok("/cities", name="Berlin", external_id="b", latitude=52, longitude=13.5)
    company = api.post_ok("/companies", name="Bakery", city_id=city["id"])
    product = api.post_ok("/products", name="Bread", company_id=company["id"], kind="service", is_active=False)
    assert city == {"id": city["id"], "external_id": "b", "name": "Berlin", "latitude": 52.0, "longitude": 13.5} | {
        "products_count": 0, "services_count": 0, "companies_count": 0
    }  # fmt: skip
    assert (company["is_active"], product["kind"], product["is_active"]) == (True, "service", False)
    for path, row in (("/cities", city), ("/companies", company), ("/products", product)):
        address = f"{path}/{row['id']}"
        assert api.read(address) == row
        changed = api.patch(V1 + address, json={"name": "Other"}).json()
        assert changed["name"] == "Other"
        assert api.read(address) == changed
    for path, row in (("/products", product), ("/companies", company), ("/cities", city)):
        address = f"{V1}{path}/{row['id']}"
        deleted = api.delete(address)
        assert (deleted.status_code, deleted.content) == (204, b"")
        is_problem(api.get(address), 404)
        is_problem(api.patch(address, json={"name": "x"}), 404)
        is_problem(api.patch(address, json={}), 404)
        is_problem(api.delete(address), 404)


def test_says_where_a_created_row_is(api: Client) -> None:
    answer = api.post(f"{V1}/cities", json={"name": "Berlin"})
    assert answer.headers["location"] == f"{V1}/cities/{answer.json()['id']}"
    assert api.get(answer.headers["location"]).json() == answer.json()


def test_deletes_products_with_their_company_and_leaves_companies_of_a_city(api: Client, plain: Plain) -> None:
    city = api.post_ok("/cities", name="Berlin")["id"]
    company = api.post_ok("/companies", name="Bakery", city_id=city)["id"]
    api.post_ok("/products", name="Bread", company_id=company)
    api.delete(f"{V1}/cities/{city}")
    assert api.read(f"/companies/{company}")["city_id"] is None
    api.delete(f"{V1}/companies/{company}")
    assert plain.one("SELECT count(*) FROM products") == 0


def test_writes_nothing_for_a_change_that_changes_nothing(api: Client, plain: Plain) -> None:
    company = api.post_ok("/companies", name="Bakery")
    plain.run("DELETE FROM event_outbox")
    for body in ({}, {"name": "Bakery"}, {"city_id": None, "is_active": True}):
        assert api.patch(f"{V1}/companies/{company['id']}", json=body).json() == company
    assert plain.one("SELECT count(*) FROM event_outbox") == 0
    changed = api.patch(f"{V1}/companies/{company['id']}", json={"name": "Baker"}).json()
    assert changed["updated_at"] > company["updated_at"]


def test_refuses_an_external_id_that_is_taken(api: Client) -> None:
    company = api.post_ok("/companies", name="c", external_id="x")["id"]
    for path, body in (("/cities", {}), ("/companies", {}), ("/products", {"company_id": company})):
        first = {"name": "a", "external_id": "x", **body}
        if path != "/companies":
            api.post_ok(path, **first)
        is_problem(api.post(V1 + path, json=first), 409)
        other = api.post_ok(path, **{**first, "external_id": "y"})["id"]
        problem = is_problem(api.patch(f"{V1}{path}/{other}", json={"external_id": "x"}), 409)
        assert "'x'" in problem["detail"]


BAD_BODIES = [
    ("/companies", {"name": "a", "city_id": 999}, "city_id"),
    ("/products", {"name": "a", "company_id": 999}, "company_id"),
    ("/products", {"name": "a"}, "company_id"),
    ("/products", {"name": "a", "company_id": None}, "company_id"),
    ("/products", {"name": "a", "company_id": BIG}, "company_id"),
    ("/products", {"name": "a", "company_id": "1"}, "company_id"),
    ("/products", {"name": "a", "company_id": True}, "company_id"),
    ("/products", {"name": "a", "company_id": 1, "kind": "toy"}, "kind"),
    ("/products", {"name": "a", "company_id": 1, "kind": None}, "kind"),
    ("/products", {"name": "a", "company_id": 1, "is_active": None}, "is_active"),
    ("/companies", {"name": "a", "is_active": "yes"}, "is_active"),
    ("/cities", {}, "name"),
    ("/cities", {"name": ""}, "name"),
    ("/cities", {"name": "   "}, "name"),
    ("/cities", {"name": None}, "name"),
    ("/cities", {"name": 7}, "name"),
    ("/cities", {"name": "a" * 301}, "name"),
    ("/cities", {"name": "a\0b"}, "name"),
    ("/cities", {"name": "a", "external_id": ""}, "external_id"),
    ("/cities", {"name": "a", "external_id": "\0"}, "external_id"),
    ("/cities", {"name": "a", "latitude": 90.5}, "latitude"),
    ("/cities", {"name": "a", "latitude": "1"}, "latitude"),
    ("/cities", {"name": "a", "longitude": -180.5}, "longitude"),
    ("/cities", {"name": "a", "country": "x"}, "country"),
]


def test_names_the_field_that_cannot_be_taken(api: Client) -> None:
    for path, body, field in BAD_BODIES:
        problem = is_problem(api.post(V1 + path, json=body), 422)
        assert ["body", field] in [error["loc"] for error in problem["errors"]], (path, body)
        assert field in problem["detail"]


BAD_CHANGES = [
    ("/companies", {"city_id": 999}, "city_id"),
    ("/companies", {"name": None}, "name"),
    ("/companies", {"is_active": None}, "is_active"),
    ("/products", {"company_id": 999}, "company_id"),
    ("/products", {"company_id": None}, "company_id"),
    ("/products", {"kind": None}, "kind"),
    ("/cities", {"name": None}, "name"),
    ("/cities", {"latitude": 91}, "latitude"),
]


def test_names_the_field_that_cannot_be_changed(api: Client) -> None:
    company = api.post_ok("/companies", name="c")["id"]
    for path, body, field in BAD_CHANGES:
        row = api.post_ok(path, name="a", **({"company_id": company} if path == "/products" else {}))
        problem = is_problem(api.patch(f"{V1}{path}/{row['id']}", json=body), 422)
        assert ["body", field] in [error["loc"] for error in problem["errors"]], (path, body)


NO_OBJECTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff",
    b'{"name":"\xff"}',
    b'{"name":"\\ud800"}',
    b'{"name":NaN}',
    b"[" * 100_000,
    b'{"name":"a","latitude":NaN}',
    b'{"name":"a","latitude":1e999}',
]


def test_answers_422_for_a_body_that_is_no_json_object(api: Client) -> None:
    for body in NO_OBJECTS:
        is_problem(api.post(f"{V1}/cities", content=body, headers={"content-type": "application/json"}), 422)


BAD_IDS = [str(BIG), str(-BIG - 1), "1" * 5000, "x", "1.5", "%00"]


def test_answers_422_for_an_id_that_no_row_can_have(api: Client) -> None:
    for method, row_id in itertools.product(("GET", "PATCH", "DELETE"), BAD_IDS):
        is_problem(api.request(method, f"{V1}/products/{row_id}", json={} if method == "PATCH" else None), 422)


FREE_IDS = [0, -1, BIG - 1]


def test_answers_404_for_an_id_that_no_row_has(api: Client) -> None:
    for row_id in FREE_IDS:
        is_problem(api.get(f"{V1}/cities/{row_id}"), 404)


BAD_QUERIES = [
    "limit=0",
    "limit=501",
    "limit=x",
    "after=x",
    f"after={BIG}",
    "after=%00",
    "external_id=%00",
    "external_id=",
    "is_active=7",
    f"city_id={BIG}",
]


def test_answers_422_for_a_query_that_makes_no_sense(api: Client) -> None:
    for query in BAD_QUERIES:
        is_problem(api.get(f"{V1}/companies?{query}"), 422)


def test_answers_every_other_error_as_a_problem_too(api: Client) -> None:
    is_problem(api.get("/nowhere"), 404)
    is_problem(api.get(f"{V1}/nowhere"), 404)
    answer = api.put(f"{V1}/cities", json={})
    is_problem(answer, 405)
    assert "GET" in answer.headers["allow"]


def test_finds_its_way_past_ids_that_were_chosen_by_hand(api: Client, plain: Plain) -> None:
    plain.run("INSERT INTO cities (id, name) VALUES (1, 'a'), (7, 'b')")
    assert api.post_ok("/cities", name="Berlin")["id"] == 8
    assert api.post_ok("/cities", name="Paris")["id"] == 9


def test_pages_through_a_list_without_missing_or_repeating_a_row(api: Client, plain: Plain) -> None:
    plain.run("INSERT INTO companies (name) SELECT 'c' || n FROM generate_series(1, 23) AS n")
    first = api.get(f"{V1}/companies", params={"limit": 5})
    assert first.links["next"]["url"] == first.json()["next"]
    items = api.pages("/companies", limit=5)
    assert [row["id"] for row in items] == list(range(1, 24))
    assert api.read("/companies", after=20)["items"] == items[20:]
    assert api.read("/companies", limit=23)["next"] is None


def test_filters_lists(api: Client, plain: Plain) -> None:
    plain.run(
        "INSERT INTO cities (name) VALUES ('a'), ('b');"
        "INSERT INTO companies (name, city_id, is_active, external_id)"
        " VALUES ('x', 1, true, 'x'), ('y', 1, false, 'y'), ('z', 2, true, 'z');"
        "INSERT INTO products (name, company_id, kind, is_active)"
        " VALUES ('p', 1, 'product', true), ('q', 1, 'service', true), ('r', 3, 'product', false)"
    )

    def names(path: str, **query: Any) -> str:
        return "".join(row["name"] for row in api.pages(path, limit=1, **query))

    assert names("/companies", city_id=1) == "xy"
    assert names("/companies", city_id=1, is_active=True) == "x"
    assert names("/companies", external_id="z") == "z"
    assert names("/products", company_id=1) == "pq"
    assert names("/products", company_id=1, kind="service") == "q"
    assert names("/products", city_id=2) == "r"
    assert names("/products", is_active=False) == "r"
    assert names("/products", external_id="none") == ""


def test_gives_a_write_the_trace_of_its_request(api: Client, plain: Plain) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for header in (trace, "nonsense", trace.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), "ff" + trace[2:]):
        assert api.post(f"{V1}/cities", json={"name": "a"}, headers={"traceparent": header}).status_code == 201
    assert plain.column("SELECT traceparent FROM event_outbox ORDER BY id") == [trace, None, None, None]
