"""Any feed, cut into any transactions, leaves behind what a plain reading of its lines says."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.app.catalog.feed.importing import BadLine, import_feed
from tests.plain import Plain

Line = dict[str, Any]
PARENT = {"company": "city", "product": "company"}
COLUMNS = {
    "city": ["name", "latitude"],
    "company": ["name", "is_active"],
    "product": ["name", "product_kind", "is_active"],
}
TAILS = ["", "\\N\t{,}\"'", " \u202e\U0001f600e\u0301\x01 "]  # of ids and names: what COPY, arrays and terminals read
ROWS = {
    "city": "SELECT external_id, NULL, name, latitude FROM cities",
    "company": "SELECT c.external_id, p.external_id, c.name, c.is_active"
    " FROM companies c LEFT JOIN cities p ON p.id = city_id",
    "product": "SELECT c.external_id, p.external_id, c.name, c.kind, c.is_active"
    " FROM products c JOIN companies p ON p.id = company_id",
}


class Catalog:
    """The contract's words on change feeds, line by line."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, list[Any]]] = {"city": {}, "company": {}, "product": {}}

    def apply(self, line: Line) -> str:
        """What the line did; ValueError for a bad one."""
        op, kind, key = line["op"], line["kind"], line["id"]
        row = self.rows[kind].get(key)
        if op == "delete":
            return self.delete(kind, key) if row else "unchanged"
        if row is None and op != "create":
            raise ValueError("unknown")
        fresh = [None, key, *{"city": [None], "company": [True], "product": ["product", True]}[kind]]
        new = list(row or fresh)
        if kind != "city" and ("parent" in line or op == "move" or row is None):
            new[0] = line.get("parent")
            if new[0] not in self.rows[PARENT[kind]] and (kind == "product" or new[0] is not None):
                raise ValueError("unknown parent")
        elif op == "move":
            raise ValueError("cities do not move")
        if op != "move":
            new[1:] = [line.get(name, old) for name, old in zip(COLUMNS[kind], new[1:], strict=True)]
        self.rows[kind][key] = new
        return (
            "unchanged"
            if new == row
            else {"create": "updated" if row else "created", "update": "updated", "move": "moved"}[op]
        )

    def delete(self, kind: str, key: str) -> str:
        """Companies take their products along; cities leave their companies behind."""
        del self.rows[kind][key]
        if kind == "company":
            self.rows["product"] = {name: row for name, row in self.rows["product"].items() if row[0] != key}
        for row in self.rows["company"].values() if kind == "city" else ():
            row[0] = None if row[0] == key else row[0]
        return "deleted"


def keys(kind: str) -> st.SearchStrategy[str]:
    return st.sampled_from([kind + tail for tail in TAILS])


@st.composite
def lines(draw: st.DrawFn) -> Line:
    kind = draw(st.sampled_from(["city", "company", "company", "product", "product"]))
    op = draw(st.sampled_from(["create", "create", "create", "update", "move", "delete", "delete"]))
    line: Line = {"op": op, "kind": kind, "id": draw(keys(kind))}
    optional = {
        "name": st.sampled_from(["a", *TAILS[1:]]),
        "is_active": st.booleans(),
        "product_kind": st.sampled_from(["product", "service"]),
    }
    optional["latitude"] = st.sampled_from([1e-7, -90.0])
    for name, values in optional.items():
        if name in COLUMNS[kind] and draw(st.booleans()):
            line[name] = draw(values)
    if kind == "company" and draw(st.integers(0, 5)):
        line["parent"] = draw(keys("city") | st.none())
    elif kind == "product" and draw(st.integers(0, 9)):
        line["parent"] = draw(keys("company"))
    return line


@st.composite
def escapes(draw: st.DrawFn) -> list[Line]:
    """A child leaves its parent, which dies and comes back: rare by chance, and the hardest to fold."""
    kind = draw(st.sampled_from(["company", "product"]))
    child, old, new = draw(keys(kind)), draw(keys(PARENT[kind])), draw(keys(PARENT[kind]))
    return [
        {"op": "move", "kind": kind, "id": child, "parent": new},
        {"op": "delete", "kind": PARENT[kind], "id": old},
        {"op": "create", "kind": PARENT[kind], "id": old},
    ]


BASE = [{"op": "create", "kind": "city", "id": f"city{tail}"} for tail in TAILS]
BASE += [{"op": "create", "kind": "company", "id": f"company{tail}", "parent": f"city{tail}"} for tail in TAILS]
BASE += [{"op": "create", "kind": "product", "id": f"product{tail}", "parent": f"company{tail}"} for tail in TAILS]


def without_bad_ones(feed: list[Line]) -> list[Line]:
    """Most random feeds break off early; this keeps the lines that can be applied."""
    catalog, good = Catalog(), []
    for line in feed:
        try:
            catalog.apply(line)
            good.append(line)
        except ValueError:
            pass
    return good


@pytest.fixture
def plain(configured_database: None, database: str) -> Plain:
    return Plain(database)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(lines().map(lambda line: [line]) | escapes(), max_size=40),
    size=st.integers(1, 40),
    sound=st.booleans(),
    based=st.booleans(),
    escaped=st.booleans(),
)
def test_leaves_behind_what_line_after_line_would(
    plain: Plain, parts: list[list[Line]], size: int, sound: bool, based: bool, escaped: bool
) -> None:
    # Given a feed, and the catalog after each of its lines
    feed = [*(BASE if based else []), *(line for part in parts for line in part)]
    feed = without_bad_ones(feed) if sound else feed
    plain.run("TRUNCATE cities, companies, products, event_outbox")
    catalog, done = Catalog(), dict.fromkeys(("created", "updated", "moved", "deleted", "unchanged"), 0)
    kept, bad = json.dumps(catalog.rows), None
    wanted = dict(done)
    for number, line in enumerate(feed, 1):
        try:
            done[catalog.apply(line)] += 1
        except ValueError:
            bad = number
            break
        if number % size == 0 or number == len(feed):
            kept, wanted = json.dumps(catalog.rows), dict(done)

    # When it is imported in transactions of `size` lines
    stream = io.BytesIO("".join(json.dumps(line, ensure_ascii=escaped) + "\n" for line in feed).encode())
    try:
        imported = import_feed(stream, "feed", lines_per_transaction=size)
        stopped = None
    except BadLine as failure:
        imported, stopped = failure.done, failure.line

    # Then the catalog is the same, the numbers are, and a bad line is named
    rows = {kind: {row[0]: list(row[1:]) for row in plain.all(sql)} for kind, sql in ROWS.items()}
    assert rows == json.loads(kept)
    assert stopped == bad
    assert {name: getattr(imported, name) for name in wanted} == wanted
    assert imported.next_line == (len(feed) + 1 if bad is None else (bad - 1) // size * size + 1)
