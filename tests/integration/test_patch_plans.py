"""Query plans: a statement that is asked for some keys looks at these keys, however large the tables are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from backend.app.api.products import parts_of
from backend.app.caches import apply, diff, explain, reads, under_way
from backend.app.caches import patch as writer
from backend.app.catalog import rows
from backend.app.catalog.rows import PRODUCT_ROWS
from backend.app.console import search
from backend.app.database.statement import as_array
from backend.app.ledger import ledger
from events import outbox
from events.prepared import GENERIC, Prepared
from tests import catalogs
from tests.plain import Plain
from tests.servers import Databases

ROWS = 50_000
KEYS = list(range(1000, 1200))
SMALL = {
    "cities",
    "city_counts",
    "active_cities_cache",
    "judgements",
    "wide_patches",
    "wide_patch_of_everything",
}  # a scan of these is no harm


@pytest.fixture(scope="module")
def plain(databases: Databases) -> Iterator[Plain]:
    """50,000 products of 10,000 companies, right mappings by plain SQL, 50,000 events waiting, 100,000 patches."""
    with databases.migrated() as url, Plain(url) as plain:
        catalogs.many(plain, cities=200, companies=10_000, products=ROWS)
        plain.run("""
            INSERT INTO company_city_mapping (company_id, city_id) SELECT id, city_id FROM companies;
            INSERT INTO product_city_mapping (product_id, city_id, company_id, kind)
            SELECT p.id, c.city_id, c.id, p.kind FROM products p JOIN companies c ON c.id = p.company_id;
            INSERT INTO city_counts (city_id) SELECT id FROM cities;
            INSERT INTO removed_keys SELECT 'product', n, n FROM generate_series(1, 50000) AS n;
            UPDATE city_counts SET patch_ids = '{9,8,7,6,5,4,3,2,1}';
            INSERT INTO task_runs (task_id, task, trigger, state)
            SELECT gen_random_uuid(), 'x', 'event', 'SUCCESS' FROM generate_series(1, 50000);
            INSERT INTO patches (task, subjects, event_ids, previous_ids)
            SELECT 'test', ARRAY['product/' || n], ARRAY['e'], ARRAY[n - 1] FROM generate_series(1, 100000) AS n;""")
        plain.run("VACUUM ANALYZE")
        yield plain


def plan(plain: Plain, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    """All nodes of the plan; the statement is planned, not run."""
    values = {name: as_array(value) for name, value in parameters.items()}
    answer = plain.one(f"EXPLAIN (FORMAT JSON) {sql}", values)
    (root,) = answer if isinstance(answer, list) else json.loads(answer)
    return list(_nodes(root["Plan"]))


@contextmanager
def taken_back(plain: Plain, changes: str) -> Iterator[None]:
    """The shared catalog with these changes, whatever happens for this long only."""
    plain.run("BEGIN")
    try:
        plain.run(changes)
        yield
    finally:
        plain.run("ROLLBACK")


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def scanned(nodes: list[dict[str, Any]]) -> set[str]:
    """Tables that the plan reads from end to end."""
    whole = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    unbounded = {
        node.get("Relation Name", node["Index Name"])
        for node in nodes
        if node["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Index Scan")
        and "Index Cond" not in node
        and not any(limit["Node Type"] == "Limit" for limit in nodes)
    }
    return (whole | unbounded) - SMALL


WHOSE = {"subject": "product/7", "askers": ["product/7", "company/7"]}
KEYED: dict[str, tuple[str, dict[str, Any]]] = {
    "patch_products": (writer.SQL["patch_products"], {"products": KEYS, "patch_id": 1}),
    "patch_companies": (writer.SQL["patch_companies"], {"companies": KEYS, "patch_id": 1}),
    "drop_counts": (writer.SQL["drop_counts"], {"cities": KEYS}),
    "counted_cities": (writer.SQL["counted_cities"], {"cities": [1, 2]}),
    "products_of": (apply.SQL["products_of"], {"companies": KEYS, "most": 1000}),
    "next_products": (apply.SQL["next_products"], {"company": 7, "after": 100, "most": 1000}),
    "differing_products": (diff.SQL["differing_products"], {"ids": KEYS, "companies": KEYS[:10]}),
    "differing_companies": (diff.SQL["differing_companies"], {"ids": KEYS}),
    "products_waiting": (under_way.SQL["products_waiting"], {"ids": KEYS}),
    "product_rows": (diff.SQL["product_rows"], {"ids": KEYS[:5]}),
    "company_rows": (diff.SQL["company_rows"], {"ids": KEYS[:5]}),
    "names_city": (diff.SQL["names_city"], {"city": 7}),
    "product_patches": (explain.SQL["patches"], {"noun": "product", "id": 7} | WHOSE),
    "company_patches": (explain.SQL["patches"], {"noun": "company", "id": 7} | WHOSE),
    "city_patches": (explain.SQL["city_patches"], {"id": 7}),
    **{
        f"search_{name}_{view}": (
            search.SQL[name].format(view=view),
            {"limit": 6, "id": 7, "text": "7", "prefix": "c12%"},
        )
        for name in ("by_id", "by_name")
        for view in search.VIEWS.values()
    },
    "search_runs": (search.SQL["runs"], {"limit": 6, "first": f"2b{'0' * 30}", "last": f"2b{'f' * 30}"}),
    "claim": (outbox.SQL["claim"], {"floor": 0, "rows": 4000, "ids": None, **outbox.CLAIM_LIMITS}),
    "delete": (outbox.SQL["delete"], {"ids": KEYS}),
}


@pytest.mark.parametrize("name", KEYED)
def test_reads_by_key(plain: Plain, name: str) -> None:
    sql, parameters = KEYED[name]

    nodes = plan(plain, sql, **parameters)

    assert scanned(nodes) == set(), [node["Node Type"] for node in nodes]


def test_explaining_reads_nothing_whole_but_the_outbox(plain: Plain) -> None:
    """Which is nearly empty at most times; an index on it is what every writer would pay for."""
    nodes = plan(plain, explain.SQL["remembered"], noun="product", id=7, subjects=WHOSE["askers"])

    assert scanned(nodes) == {"event_outbox"}


OFTEN = {name: KEYED[name] for name in ("patch_products", "patch_companies", "differing_products", "claim", "delete")}


@pytest.mark.parametrize("name", OFTEN)
def test_what_is_planned_for_any_keys_reads_by_key_as_well(plain: Plain, name: str) -> None:
    sql, parameters = OFTEN[name]
    values = {name: as_array(value) for name, value in parameters.items()}
    nodes: list[dict[str, Any]] = []

    def execute(statement: str, given: Mapping[str, Any]) -> None:
        if statement.startswith("PREPARE"):
            plain.run(statement, given)
        elif statement != sql:
            nodes.extend(plan(plain, statement.removeprefix(f"{GENERIC}; "), **given))

    with taken_back(plain, GENERIC):
        statements = Prepared()
        for _ in range(2):
            statements.run(execute, sql, values)
        plain.run("DEALLOCATE ALL")

    assert nodes
    assert scanned(nodes) == set(), [node["Node Type"] for node in nodes]
    assert name != "claim" or [node["Node Type"] for node in nodes][-2:] == ["Limit", "Index Scan"]


def test_the_claim_walks_the_primary_key_in_order_and_sorts_nothing(plain: Plain) -> None:
    nodes = plan(plain, outbox.SQL["claim"], floor=10, rows=4000, ids=None, **outbox.CLAIM_LIMITS)

    kinds = [node["Node Type"] for node in nodes]
    assert "Sort" not in kinds
    assert kinds[-2:] == ["Limit", "Index Scan"]
    assert nodes[-1]["Index Name"] == "event_outbox_pkey"
    assert "id > " in nodes[-1]["Index Cond"]


def test_the_largest_event_batch_still_reads_by_key(plain: Plain) -> None:
    """2,000 keys of 50,000: the planner may take either, but must not read products once per key."""
    nodes = plan(plain, writer.SQL["patch_products"], products=list(range(1, 40_000, 20)), patch_id=1)

    assert not [node for node in nodes if node["Node Type"] == "Nested Loop" and _inner(node) == "Seq Scan"]


def _inner(node: dict[str, Any]) -> str:
    return str(node["Plans"][-1]["Node Type"])


@pytest.mark.parametrize("what", ["products", "companies", "counts"])
def test_the_diff_of_all_rows_is_a_hash_or_merge_join(plain: Plain, what: str) -> None:
    nodes = plan(plain, diff.SQL[what], after=None, until=diff.BIGINT_MAX, city=None)

    joins = {node["Node Type"] for node in nodes if "Join" in node["Node Type"] or node["Node Type"] == "Nested Loop"}
    assert joins <= {"Hash Join", "Merge Join"}
    assert any(node.get("Join Type") == "Full" for node in nodes)


def test_a_window_of_the_diff_reads_its_ids_only(plain: Plain) -> None:
    nodes = plan(plain, diff.SQL["products"], after=1000, until=2000, city=None)

    assert "product_city_mapping" not in scanned(nodes)
    assert "products" not in scanned(nodes)


def test_the_diff_of_one_city_reads_that_city_only(plain: Plain) -> None:
    nodes = plan(plain, diff.SQL["products"], after=None, until=diff.BIGINT_MAX, city=7)

    assert not {"product_city_mapping", "products", "companies"} & set(scanned(nodes))


def test_the_windows_of_one_city_are_found_in_that_city_only(plain: Plain) -> None:
    nodes = plan(plain, diff.SQL["city_window_end"], after=None, rows=2_000_000, city=7)

    assert scanned([node for node in nodes if node["Node Type"] != "Limit"]) == set()


def test_cities_whose_row_of_counts_is_to_come_or_to_go_are_looked_up_by_their_ids(plain: Plain) -> None:
    with taken_back(plain, "SET LOCAL enable_seqscan = off"):  # there are so few that a scan is no harm
        nodes = plan(plain, diff.SQL["uncounted"], cities=[1, 2])

    tables = [node for node in nodes if "Relation Name" in node]
    assert {node["Relation Name"] for node in tables} == {"cities", "city_counts"}
    assert all("Index Cond" in node for node in tables), tables


LISTS: dict[str, reads.Read] = {
    "products": reads.city_products(7, None, None, 100),
    "products_after": reads.city_products(7, None, 40_000, 100),
    "services_after": reads.city_products(7, "service", 40_000, 100),
    "companies": reads.city_companies(7, None, 100),
    "companies_after": reads.city_companies(7, 4_000, 100),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_page_of_a_city_begins_in_its_index_wherever_it_begins(plain: Plain, name: str) -> None:
    """Also by the plan that the server keeps for any parameters."""
    nodes = kept_plan(plain, LISTS[name])

    mapped = [node for node in nodes if node.get("Relation Name", "").endswith("_city_mapping")]
    assert {node["Index Name"] for node in mapped} == {f"{mapped[0]['Relation Name']}_city_id_idx"}
    assert all(re.search(r"(product|company)_id >= COALESCE", node["Index Cond"]) for node in mapped)
    assert scanned(nodes) == set()


def kept_plan(plain: Plain, read: reads.Read) -> list[dict[str, Any]]:
    names = list(read.parameters)
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", read.statement)
    values = [read.parameters[name] for name in names]
    plain.run("SET plan_cache_mode = force_generic_plan")
    try:
        plain.run(f"PREPARE page AS {numbered}")
        answer = plain.one(f"EXPLAIN (FORMAT JSON) EXECUTE page ({', '.join(['%s'] * len(values))})", values)
    finally:
        plain.run("DEALLOCATE ALL; RESET plan_cache_mode")
    return list(_nodes(answer[0]["Plan"]))


@pytest.mark.parametrize(
    "wanted", [{"kind": "service"}, {"is_active": False}, {"kind": "service", "is_active": False}, {"company_id": 7}]
)
def test_a_page_of_filtered_products_reads_an_index_in_order(plain: Plain, wanted: dict[str, Any]) -> None:
    filters = [PRODUCT_ROWS.c[name] == value for name, value in wanted.items()]
    query = rows.listing(PRODUCT_ROWS, filters, 100, 100, parts_of(wanted)).compile(
        dialect=reads.DIALECT, compile_kwargs={"literal_binds": True}
    )
    with taken_back(plain, "UPDATE products SET is_active = id % 500 <> 0; ANALYZE products"):
        nodes = plan(plain, str(query))

    index = f"products_{'company_id' if 'company_id' in wanted else 'is_active_kind'}_idx"
    assert index in {node.get("Index Name") for node in nodes}
    assert not any(node["Node Type"] in ("Sort", "Seq Scan") for node in nodes)


def test_pages_of_each_filter_hold_each_product_once(plain: Plain) -> None:
    rare = "UPDATE products SET is_active = id % 7 <> 0, kind = CASE WHEN id % 11 = 0 THEN 'service' ELSE 'product' END"
    with taken_back(plain, f"DELETE FROM products WHERE id > 500; {rare}"):
        for wanted in ({"kind": "service"}, {"kind": "product"}, {"is_active": False}, {"is_active": True}):
            ((name, value),) = wanted.items()
            seen, after = list[int](), None
            while page := _page(plain, wanted, after):
                seen, after = [*seen, *page], page[-1]
            assert seen == plain.column(f"SELECT id FROM products WHERE {name} = %s ORDER BY id", [value])


def _page(plain: Plain, wanted: dict[str, Any], after: int | None) -> list[int]:
    filters = [PRODUCT_ROWS.c[name] == value for name, value in wanted.items()]
    query = rows.listing(PRODUCT_ROWS, filters, after, 29, parts_of(wanted))
    return plain.column(str(query.compile(dialect=reads.DIALECT, compile_kwargs={"literal_binds": True})))


RARE_FAILURES = """
    INSERT INTO task_runs (task_id, task, trigger, state, queued_at)
    SELECT gen_random_uuid(), 'apply_catalog_events', 'event', CASE n % 10000 WHEN 0 THEN 'FAILURE' ELSE 'SUCCESS' END,
           now() - n * interval '1 second' FROM generate_series(1, 50000) AS n;
    ANALYZE task_runs"""


@pytest.mark.parametrize("state", ["FAILURE", "SKIPPED", "PENDING", "STARTED"])
def test_the_runs_of_a_rare_state_are_found_by_it(plain: Plain, state: str) -> None:
    with taken_back(plain, RARE_FAILURES):
        nodes = plan(plain, ledger.SQL["history"], state=state, task=None, before=None, limit=50)

    assert {node.get("Index Name") for node in nodes} & {"task_runs_state_idx", "task_runs_active_idx"}
    assert scanned(nodes) == set()
