"""Reading what one has just written: `fresh` on every read of the caches, beside updaters that take their time."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from backend.app.api.edge.turns import AT_ONCE
from backend.app.api.fresh.asking import FRESH, LONGEST_WAIT_MS, MOST_SUBJECTS, SUBJECT
from backend.app.api.fresh.lookout import Lookout, NounLookout
from backend.app.caches import diff
from backend.app.caches.apply import apply
from backend.app.caches.diff import Noun
from backend.app.caches.keys import Cause, Keys
from tests import catalogs
from tests.background import background
from tests.integration.api import V1, Client, is_problem, patch_all
from tests.plain import Plain
from tests.waiting import eventually, turn_of_the_loop, until

LAG: Final = 0.03  # seconds that the follower lets events lie, at most
READS: Final = (
    "/cities", "/cities/1", "/cities/tree", "/cities/1/products", "/cities/1/companies",
    "/caches/active-cities/products", "/caches/active-cities/companies", "/caches/explain/product/100",
    "/caches/explain/company/10", "/caches/explain/city/1", "/console/cities",
)  # fmt: skip
SIZE: Final = 5_000  # products of a company that takes a wide patch


@pytest.fixture
def catalog(plain: Plain, api: Client) -> Plain:
    catalogs.small(plain)
    for table in ("cities", "companies", "products"):
        plain.run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 1000)")
    patch_all(plain)
    return plain


@pytest.fixture
def follower(catalog: Plain, database: str) -> Iterator[None]:
    """An updater that applies what was captured, a little late."""

    def follow(stop: threading.Event) -> None:
        with Plain(database) as outbox:
            while not stop.wait(random.uniform(0, LAG)):
                rows = outbox.all("SELECT id, subject FROM event_outbox ORDER BY id")
                by_noun = {
                    noun: sorted(_ids(noun, [row[1] for row in rows])) for noun in ("product", "company", "city")
                }
                apply(Keys(*by_noun.values()), Cause("test"))
                outbox.run("DELETE FROM event_outbox WHERE id = ANY(%s)", ([row[0] for row in rows],))

    with background(follow):
        yield


def _ids(noun: str, subjects: Sequence[str]) -> set[int]:
    return {int(subject.partition("/")[2]) for subject in subjects if subject.startswith(noun)}


def _get(api: Client, path: str, fresh: str, **query: Any) -> Any:
    return api.get(V1 + path, params={"fresh": fresh, **query})


def test_each_read_shows_the_creation_the_move_and_the_deletion_before_it(api: Client, follower: None) -> None:
    stale = 0
    for number in range(25):
        made = api.post(f"{V1}/products", json={"name": f"p{number}", "company_id": 10})
        product = made.json()["id"]
        at_once = api.read("/cities/1/products", limit=500)["items"]
        stale += product not in [row["product_id"] for row in at_once]
        answer = _get(api, "/cities/1/products", made.headers[SUBJECT], limit=500)
        assert (answer.status_code, answer.headers[FRESH]) == (200, "yes")
        assert product in [row["product_id"] for row in answer.json()["items"]]
    assert stale > 0  # else nothing was shown
    for _ in range(4):
        made = api.post(f"{V1}/products", json={"name": "p", "company_id": 10}).json()["id"]
        moved = api.patch(f"{V1}/products/{made}", json={"company_id": 20})
        explained = _get(api, f"/caches/explain/product/{made}", moved.headers[SUBJECT])
        assert (explained.json()["cached"]["city_id"], explained.json()["agrees"]) == (2, True)
        deleted = api.delete(f"{V1}/products/{made}")
        answer = _get(api, "/cities/2/products", deleted.headers[SUBJECT])
        assert made not in [row["product_id"] for row in answer.json()["items"]]


def test_every_read_of_the_caches_waits(api: Client, catalog: Plain) -> None:
    for path in READS:
        assert FRESH not in api.get(V1 + path).headers
        assert _get(api, path, "product/100,company/10,city/1").headers[FRESH] == "yes"
        assert api.get(V1 + path, headers={FRESH: "product/100, company/10"}).headers[FRESH] == "yes"
    catalog.run("UPDATE products SET is_active = false WHERE id = 100")
    for path in READS:
        began = time.monotonic()
        for subject in ("product/100", "company/10", "city/1"):
            answer = _get(api, path, f"product/200,{subject}", wait=20)
            assert (answer.status_code, answer.headers[FRESH]) == (200, "no")
        assert time.monotonic() - began >= 3 * 0.02
        assert api.get(V1 + path, params={"wait": 0}, headers={FRESH: "product/100"}).headers[FRESH] == "no"


def test_openapi_shows_fresh_on_each_of_them_and_subjects_on_each_write(api: Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    waits = {path for path, operations in paths.items() if "fresh" in _parameters(operations.get("get", {}))}
    named = {path for path, operations in paths.items() if any(_names_subject(one) for one in operations.values())}

    assert len(waits) == len(READS) - 1  # two of them are one path
    assert all(_parameters(paths[path]["get"])["fresh"]["examples"] for path in waits)
    assert all(FRESH in paths[path]["get"]["responses"]["200"]["headers"] for path in waits)
    assert named == {f"{V1}/{noun}{end}" for noun, key in NOUNS for end in ("", f"/{{{key}}}")}


NOUNS: Final = (("cities", "city_id"), ("companies", "company_id"), ("products", "product_id"))


def _parameters(operation: dict[str, Any]) -> dict[str, Any]:
    return {parameter["name"]: parameter for parameter in operation.get("parameters", ())}


def _names_subject(operation: dict[str, Any]) -> bool:
    return any(SUBJECT in answer.get("headers", {}) for answer in operation["responses"].values())


def test_every_write_of_the_catalog_names_its_subject(api: Client, catalog: Plain) -> None:
    bodies = {"cities": {"name": "c"}, "companies": {"name": "x"}, "products": {"name": "p", "company_id": 10}}
    for noun, singular in zip(bodies, ("city", "company", "product"), strict=True):
        made = api.post(f"{V1}/{noun}", json=bodies[noun])
        subject = f"{singular}/{made.json()['id']}"
        changed = api.patch(f"{V1}/{noun}/{made.json()['id']}", json={"name": "n"})
        deleted = api.delete(f"{V1}/{noun}/{made.json()['id']}")
        assert [answer.headers[SUBJECT] for answer in (made, changed, deleted)] == [subject] * 3
        assert SUBJECT not in api.delete(f"{V1}/{noun}/{made.json()['id']}").headers


def test_what_neither_catalog_nor_cache_knows_is_fresh_and_the_longest_wait_ends_in_time(
    api: Client, catalog: Plain
) -> None:
    ends = f"product/{-(2**63)},company/{2**63 - 1},city/0"
    assert _get(api, "/cities", ends).headers[FRESH] == "yes"
    answer = _get(api, "/caches/explain/product/7", "product/7")
    assert (answer.status_code, answer.headers[FRESH]) == (404, "yes")
    catalog.run("UPDATE products SET is_active = false WHERE id = 100")
    answer = _get(api, "/cities/1", "product/100", wait=LONGEST_WAIT_MS)
    assert (answer.status_code, answer.headers[FRESH]) == (200, "no")


NO_SUBJECTS: Final = (
    "", ",", "product", "product/", "product/x", "products/1", "product/1,", "Product/1", "product/1.0", "product/+1",
    f"product/{2**63}", "product/1 2", "product/１", "product/1;company/2", "canary/1", "watched/1",  # noqa: RUF001
    ",".join(["product/1"] * (MOST_SUBJECTS + 1)), "x" * 5_000,
)  # fmt: skip


def test_what_is_no_subject_and_no_wait_is_refused_with_a_sentence(api: Client, catalog: Plain) -> None:
    for fresh in NO_SUBJECTS:
        for answer in (_get(api, "/cities", fresh), api.get(f"{V1}/cities", headers={FRESH: fresh.encode()})):
            detail = is_problem(answer, 422)["detail"]
            assert "is no subject: product/ID, company/ID or city/ID" in detail or "more than 50 subjects" in detail
    for wait in ("-1", str(LONGEST_WAIT_MS + 1), "soon", "1e3"):
        is_problem(_get(api, "/cities", "city/1", wait=wait), 422)


def test_a_city_is_fresh_when_its_counts_agree_and_none_is_left_of_a_deleted_one(api: Client, catalog: Plain) -> None:
    catalog.run("INSERT INTO cities (id, name) VALUES (4, 'new')")
    assert _get(api, "/cities/4", "city/4", wait=0).headers[FRESH] == "no"
    catalog.run("DELETE FROM cities WHERE id = 2")
    apply(Keys(cities=[2, 4]), Cause("test"))
    assert _get(api, "/cities/4", "city/4", wait=0).headers[FRESH] == "yes"
    assert _get(api, "/cities/2", "city/2", wait=0).headers[FRESH] == "no"  # companies are still mapped to it
    patch_all(catalog)
    assert _get(api, "/cities/2", "city/2", wait=0).headers[FRESH] == "yes"


def test_a_company_is_fresh_when_its_last_product_is(api: Client, catalog: Plain) -> None:
    catalog.run(f"INSERT INTO products (company_id, name) SELECT 10, 'p' FROM generate_series(1, {SIZE})")
    patch_all(catalog)
    last = catalog.one("SELECT max(id) FROM products")
    catalog.run("UPDATE companies SET city_id = 2 WHERE id = 10")
    assert _get(api, "/cities", "company/10", wait=0).headers[FRESH] == "no"
    products = catalog.column("SELECT id FROM products WHERE company_id = 10 ORDER BY id")
    apply(Keys(companies=[10]), Cause("test"))  # leaves the products to a wide patch
    assert catalog.one("SELECT count(*) FROM wide_patches") == 1
    apply(Keys(products[:-1]), Cause("test"))
    assert _get(api, "/cities", "company/10", wait=0).headers[FRESH] == "no"
    apply(Keys([last]), Cause("test"))
    # though the wide patch is still asked for
    assert _get(api, "/cities", "company/10").headers[FRESH] == "yes"
    catalog.run("INSERT INTO product_city_mapping (product_id, city_id, company_id, kind) VALUES (7, 1, 10, 'product')")
    assert _get(api, "/cities", "company/10", wait=0).headers[FRESH] == "no"


@pytest.mark.alone
class TestAlone:
    def test_requests_that_wait_take_no_thread_and_no_turn(self, api: Client, catalog: Plain) -> None:
        """Three times as many as may have a thread wait for one caller, who reads something else meanwhile."""
        catalog.run("UPDATE products SET is_active = false WHERE id = 100")
        assert _get(api, "/cities/2", "company/20").headers[FRESH] == "yes"  # by connections that are open from now on
        with ThreadPoolExecutor(3 * AT_ONCE) as pool:
            waiting = [
                pool.submit(_get, api, "/cities/1", "product/100", wait=LONGEST_WAIT_MS) for _ in range(3 * AT_ONCE)
            ]
            for _ in range(5):
                assert api.get(f"{V1}/cities/1").status_code == 200
                assert _get(api, "/cities/2", "company/20").headers[FRESH] == "yes"
            assert not any(answer.done() for answer in waiting)
            apply(Keys([100]), Cause("test"))
            assert {answer.result().headers[FRESH] for answer in waiting} == {"yes"}


def test_a_caller_has_a_share_of_those_that_wait(api: Client, catalog: Plain) -> None:
    """While its only place is taken it is told no at once."""
    lookout = api.app.state.lookout = Lookout(waiting=10, each=1)  # type: ignore[attr-defined]
    catalog.run("UPDATE products SET is_active = false WHERE id = 100")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_get, api, "/cities/1", "product/100", wait=LONGEST_WAIT_MS)
        until(lambda: lookout.waiting == 1)
        assert _get(api, "/cities/1", "product/200").headers[FRESH] == "no"
        apply(Keys([100]), Cause("test"))
        assert waiting.result().headers[FRESH] == "yes"
    assert _get(api, "/cities/1", "product/200").headers[FRESH] == "yes"


def test_a_look_does_not_count_for_who_came_after_it_had_begun() -> None:
    """Its snapshot may be older than the write that the second one reads after."""
    begun, go_on, looks = threading.Event(), threading.Event(), [set[int](), {1}, set[int]()]

    def look(noun: Noun, keys: Sequence[int]) -> set[int]:
        begun.set()
        go_on.wait(10)
        return looks.pop(0)

    async def two() -> tuple[bool, bool, int]:
        watch = NounLookout("product", look, 10)
        soon = time.monotonic() + 5
        first = asyncio.create_task(watch.until_fresh({1}, soon))
        await eventually(begun.is_set)
        second = asyncio.create_task(watch.until_fresh({1}, soon))
        await turn_of_the_loop()
        go_on.set()
        return await first, await second, len(looks)

    assert asyncio.run(two()) == (True, True, 0)


def test_many_keys_of_which_few_are_looked_at_at_once_all_have_their_turn() -> None:
    seen: list[int] = []

    def look(noun: Noun, keys: Sequence[int]) -> set[int]:
        seen.extend(keys)
        return {9}

    async def wait() -> list[bool]:
        watch = NounLookout("company", look, 1)
        now = time.monotonic()
        return await asyncio.gather(watch.until_fresh(set(range(10)), now), watch.until_fresh({3, 4}, now + 5))

    assert asyncio.run(wait()) == [False, True]
    assert set(seen) == set(range(10))


def test_a_look_that_fails_is_told_to_all_who_wait() -> None:
    def look(noun: Noun, keys: Sequence[int]) -> set[int]:
        raise ZeroDivisionError

    async def wait() -> list[Any]:
        watch = NounLookout("city", look, 1)
        waits = [watch.until_fresh({key}, time.monotonic() + 5) for key in (1, 2)]
        return await asyncio.gather(*waits, return_exceptions=True)

    assert [type(answer) for answer in asyncio.run(wait())] == [ZeroDivisionError, ZeroDivisionError]


def test_a_company_that_waits_for_a_wide_patch_is_found_stale_without_a_look_at_all_its_products(
    configured_database: None, plain: Plain
) -> None:
    catalogs.many(plain, cities=3, companies=2, products=10_000)
    patch_all(plain)
    plain.run("UPDATE companies SET city_id = 1 + city_id % 3 WHERE id = 1")
    apply(Keys(companies=[1]), Cause("test"))
    plan = plain.column("EXPLAIN (ANALYZE) " + diff.SQL["company_differs"], {"company": 1})
    assert plain.one(diff.SQL["company_differs"], {"company": 1}) is True
    assert any("Full Join" in line and "never executed" in line for line in plan), plan
