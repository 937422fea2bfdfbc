"""Query plans: a statement that is asked for some keys looks at these keys, however large the tables are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from backend.app.caches import apply, diff, explain, under_way
from backend.app.caches import patch as writer
from backend.app.console import search
from backend.app.database.statement import as_array
from events import outbox
from tests import catalogs
from tests.plain import Plain
from tests.servers import Databases

ROWS = 50_000
KEYS = list(range(1000, 1200))
SMALL = {
    "cities",
    "city_counts",
    "active_cities_cache",
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
    "products_versions": (under_way.SQL["products_versions"], {"ids": KEYS}),
    "companies_versions": (under_way.SQL["companies_versions"], {"ids": KEYS}),
    "counts_versions": (under_way.SQL["counts_versions"], {"ids": [1, 2]}),
    "products_waiting": (under_way.SQL["products_waiting"], {"ids": KEYS}),
    "product_rows": (diff.SQL["product_rows"], {"ids": KEYS[:5]}),
    "company_rows": (diff.SQL["company_rows"], {"ids": KEYS[:5]}),
    "product_newest": (explain.SQL["product_newest"], {"id": 7}),
    "company_newest": (explain.SQL["company_newest"], {"id": 7}),
    "patches": (explain.SQL["patches"], {"noun": "product", "id": 7, "newest": 99_000} | WHOSE),
    "city_patches": (explain.SQL["city_patches"], {"id": 7}),
    "patches_since": (explain.SQL["patches_since"], {}),
    **{
        f"search_{name}_{view}": (
            search.SQL[name].format(view=view),
            {"limit": 6, "id": 7, "text": "7", "prefix": "c12%"},
        )
        for name in ("by_id", "by_name")
        for view in search.VIEWS.values()
    },
    "search_runs": (search.SQL["runs"], {"limit": 6, "first": f"2b{'0' * 30}", "last": f"2b{'f' * 30}"}),
    "claim": (outbox.SQL["claim"], {"floor": 0, "rows": 4000, **outbox.CLAIM_LIMITS}),
    "delete": (outbox.SQL["delete"], {"ids": KEYS}),
}


@pytest.mark.parametrize("name", KEYED)
def test_reads_by_key(plain: Plain, name: str) -> None:
    sql, parameters = KEYED[name]

    nodes = plan(plain, sql, **parameters)

    assert scanned(nodes) == set(), [node["Node Type"] for node in nodes]


def test_the_claim_walks_the_primary_key_in_order_and_sorts_nothing(plain: Plain) -> None:
    nodes = plan(plain, outbox.SQL["claim"], floor=10, rows=4000, **outbox.CLAIM_LIMITS)

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
    nodes = plan(plain, diff.SQL[what], after=None, until=diff.BIGINT_MAX)

    joins = {node["Node Type"] for node in nodes if "Join" in node["Node Type"] or node["Node Type"] == "Nested Loop"}
    assert joins <= {"Hash Join", "Merge Join"}
    assert any(node.get("Join Type") == "Full" for node in nodes)


def test_a_window_of_the_diff_reads_its_ids_only(plain: Plain) -> None:
    nodes = plan(plain, diff.SQL["products"], after=1000, until=2000)

    assert "product_city_mapping" not in scanned(nodes)
    assert "products" not in scanned(nodes)


def test_the_answer_of_each_city_comes_from_an_index(plain: Plain) -> None:
    for table, key in (("product_city_mapping", "product_id"), ("company_city_mapping", "company_id")):
        sql = f"SELECT {key} FROM {table} WHERE city_id = 7 AND {key} > 100 ORDER BY {key} LIMIT 100"
        nodes = plan(plain, sql)
        assert scanned(nodes) == set()
        assert any("city_id_idx" in node.get("Index Name", "") for node in nodes)
