"""The tree of cities: texts and sums are those of a tree that is made of the rows alone, however these have moved."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from backend.app.caches import tree

LEVELS: Final = ("region", 'federal "district"', "country")
IDS: Final = st.integers(-(2**63), 2**63 - 1) | st.integers(1, 9)
NAMES: Final = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)


@dataclass(frozen=True)
class Row:
    """A city with its count, or what is above cities."""

    id: int
    name: str | None
    parents: tuple[int | None, ...]
    count: int = 0


Rows = list[list[Row]]  # by level, cities first


@dataclass
class Node:
    """A place as a client sees it."""

    row: Row
    level: int
    below: list[Node] = field(default_factory=list)

    def told(self, everything: bool) -> dict[str, Any]:
        level = ("city", *LEVELS)[self.level]
        children = self.children(everything)
        return {"id": self.row.id, "name": self.row.name, "level": level, "count": self.sum(), "children": children}

    def children(self, everything: bool) -> list[dict[str, Any]]:
        nodes = sorted(self.below, key=lambda node: (node.row.name or "", node.row.id, node.level))
        return [node.told(everything) for node in nodes if everything or node.has_any()]

    def has_any(self) -> bool:
        return self.row.count != 0 or any(node.has_any() for node in self.below)

    def sum(self) -> int:
        return self.row.count + sum(node.sum() for node in self.below)


def expected(rows: Rows, everything: bool) -> bytes:
    """By plain climbing, place by place."""
    nodes = {(level, row.id): Node(row, level) for level, found in enumerate(rows) for row in found}
    top = Node(Row(0, None, ()), 0)
    for node in nodes.values():
        keys = [(level, node.row.parents[level - 1]) for level in range(node.level + 1, len(rows))]
        above = [nodes[key] for key in keys if key in nodes]
        (above or [top])[0].below.append(node)
    return json.dumps(top.children(everything), separators=(",", ":"), ensure_ascii=False).encode()


def sent(rows: Rows) -> list[tuple[Any, ...]]:
    """As the database sends it."""

    def array(values: list[Any]) -> str:
        return json.dumps(values, ensure_ascii=False)

    found = []
    for level, places in enumerate(rows):
        ids, names = array([row.id for row in places]), array([row.name for row in places])
        parents = array([row.parents for row in places] if len(rows) > 1 else [])
        counts = array([row.count for row in places]).replace(" ", "") if level == 0 else None
        found.append((level, ids, names, parents, counts))
    return found


@st.composite
def catalogs(draw: st.DrawFn) -> Rows:
    levels = draw(st.integers(0, len(LEVELS)))
    ids = [draw(st.lists(IDS, max_size=6, unique=True)) for _ in range(levels + 1)]
    above = [st.none() | st.integers(1, 9) | (st.sampled_from(found) if found else st.none()) for found in ids[1:]]
    counts = st.integers(-2, 3)
    return [
        [Row(row_id, draw(NAMES), tuple(draw(one) for one in above), 0 if level else draw(counts)) for row_id in found]
        for level, found in enumerate(ids)
    ]


@given(catalogs(), st.data())
def test_after_any_changes_it_is_the_tree_of_the_rows(rows: Rows, data: st.DataObject) -> None:
    for _ in range(4):
        for everything in (False, True):
            assert tree.tree(sent(rows), LEVELS[: len(rows) - 1], everything) == expected(rows, everything)
        rows = [list(found) for found in rows]
        for found in rows:
            for at, row in enumerate(found):
                change = data.draw(st.sampled_from(("nothing", "count", "name", "parents")))
                if change == "count" and found is rows[0]:
                    found[at] = replace(row, count=data.draw(st.integers(-2, 3)))
                elif change == "name":
                    found[at] = replace(row, name=data.draw(NAMES))
                elif change == "parents":
                    found[at] = replace(row, parents=tuple(None for _ in row.parents))


def test_texts_are_written_once_while_only_counts_move() -> None:
    tree._shape.cache_clear()
    for count in range(5):
        rows = [[Row(1, "a", (1,), count)], [Row(1, "r", (None,))]]
        assert json.loads(tree.tree(sent(rows), LEVELS[:1], everything=True))[0]["count"] == count
    assert tree._shape.cache_info().misses == 1
