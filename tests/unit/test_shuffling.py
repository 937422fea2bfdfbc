"""The shuffled feed is really another order, and one that means the same."""

from __future__ import annotations

import random
from typing import Any

from tests import shuffling
from tests.acceptance.operating import FEED

Line = dict[str, Any]


def meaning(feed: list[Line]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """What is there after the feed, by a plain reading; a line that names an unknown parent is an error."""
    there: dict[tuple[str, str], tuple[Any, ...]] = {}
    for line in feed:
        own = (line["kind"], line["id"])
        if line["op"] == "delete":
            _delete(there, own)
            continue
        parent = there[own][0] if own in there else None
        if "parent" in line:
            parent = line["parent"] and (shuffling.PARENT[line["kind"]], line["parent"])
            assert parent is None or parent in there, line
        there[own] = (parent, line.get("product_kind", there[own][1] if own in there else None))
    return there


def _delete(there: dict[tuple[str, str], tuple[Any, ...]], own: tuple[str, str]) -> None:
    if there.pop(own, None) is None:
        return
    for child, (parent, kind) in list(there.items()):
        if parent == own and child[0] == "product":
            _delete(there, child)
        elif parent == own:
            there[child] = (None, kind)


def test_the_shuffled_feed_means_the_same_and_is_another_order() -> None:
    feed = shuffling.lines(FEED)[:6000]

    other = list(shuffling.shuffled(feed, random.Random(1)))

    assert other != feed
    assert [line["ts"] for line in other] == [line["ts"] for line in feed]
    assert sorted(map(str, other)) == sorted(map(str, feed))
    assert sum(one is not two for one, two in zip(feed, other, strict=True)) > 1000
    assert meaning(other) == meaning(feed)


def test_a_parent_comes_before_its_child_and_the_lines_of_an_id_keep_their_order() -> None:
    feed: list[Line] = [
        {"ts": "1", "op": "create", "kind": "city", "id": "c"},
        {"ts": "1", "op": "create", "kind": "company", "id": "x", "parent": "c"},
        {"ts": "1", "op": "create", "kind": "company", "id": "y", "parent": "c"},
        {"ts": "1", "op": "create", "kind": "product", "id": "p", "parent": "x"},
        {"ts": "1", "op": "move", "kind": "product", "id": "p", "parent": "y"},
        {"ts": "1", "op": "delete", "kind": "company", "id": "x"},
    ]

    for seed in range(50):
        order = [(line["op"], line["id"]) for line in shuffling.shuffled(feed, random.Random(seed))]
        assert order[0] == ("create", "c")
        assert order.index(("create", "x")) < order.index(("create", "p")) < order.index(("move", "p"))
        assert order.index(("create", "y")) < order.index(("move", "p")) < order.index(("delete", "x"))
