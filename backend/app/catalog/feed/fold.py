"""Fold the lines of one transaction: what line after line would leave behind, as few writes of many rows.

The catalog rows that the lines name are loaded, the lines are applied to them in memory in their order, and the
difference is written in one fixed order: dead products, companies and cities that came back (their old rows go), then
cities, companies and products from the top down, then dead companies and cities. A row that dies takes along what
hangs on it in the database by the foreign keys' own rules; what the lines have touched is known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import UNSET

from backend.app.catalog.feed.lines import Bad, FeedChange

NOUNS: Final = ("city", "company", "product")
PARENT_NOUN: Final = {"company": "city", "product": "company"}


class FeedNode:
    """One row of the catalog as the lines so far have left it."""

    __slots__ = ("children", "escaped", "id", "key", "live", "parent", "stored", "values")

    def __init__(self, key: str, values: list[Any], parent: FeedNode | int | None, row_id: int | None = None) -> None:
        self.key = key  # external id
        self.id = row_id  # of the row in the database; None while there is none
        self.live = True
        self.values = values  # the noun's columns, see COLUMNS
        self.parent = parent  # a row that no line names is known by its id only
        self.stored: tuple[Any, ...] | None = None  # parent and values as the database has them
        self.children: list[FeedNode] = []  # those that came once; whether they are still here is asked of them
        self.escaped = False  # a row that was a child in the database has moved away

    def differs(self) -> bool:
        """Whether the database has other values."""
        return self.stored != (self.parent, *self.values)


COLUMNS: Final = {
    "city": ("name", "latitude", "longitude"),
    "company": ("name", "is_active"),
    "product": ("name", "kind", "is_active"),
}


@dataclass
class Tally:
    """What the lines did, each line counted once."""

    created: int = 0
    updated: int = 0
    moved: int = 0
    deleted: int = 0  # rows that went along with their company are not counted
    unchanged: int = 0  # lines that changed nothing

    def add(self, other: Tally) -> None:
        """Add the numbers of another part of the feed."""
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)


@dataclass
class Model:
    """The part of the catalog that some lines touch."""

    nodes: dict[str, dict[str, FeedNode]] = field(default_factory=lambda: {noun: {} for noun in NOUNS})
    reborn: dict[str, list[int]] = field(default_factory=lambda: {noun: [] for noun in NOUNS})  # ids of rows to replace
    tally: Tally = field(default_factory=Tally)

    def load(self, noun: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take rows (id, external id, parent's id, the columns); nouns come from the top down."""
        above = {node.id: node for node in self.nodes[PARENT_NOUN[noun]].values()} if noun in PARENT_NOUN else {}
        for row_id, key, parent_id, *values in rows:
            parent = above.get(parent_id, parent_id)
            node = self.nodes[noun][key] = FeedNode(key, values, parent, row_id)
            node.stored = (parent, *values)
            if isinstance(parent, FeedNode):
                parent.children.append(node)

    def apply(self, change: FeedChange) -> bool:
        """Apply one line; False when what is there must be written first. Raises Bad."""
        node = self.nodes[change.kind].get(change.id)
        if change.op == "create":
            if node is None or not node.live:
                return self._create(change, node)
            return self._update(change, node)
        if change.op == "delete":
            self._delete(change.kind, node)
            return True
        if node is None or not node.live:
            raise Bad(
                f"unknown {change.kind} {change.id!r}: it cannot be {'moved' if change.op == 'move' else 'updated'}"
            )
        return self._move(change, node) if change.op == "move" else self._update(change, node)

    def _create(self, change: FeedChange, dead: FeedNode | None) -> bool:
        if dead is not None and dead.id is not None:
            if dead.escaped:
                return False
            self.reborn[change.kind].append(dead.id)
            dead.id = None
        parent = self._parent(change) if change.kind != "city" else None
        node = FeedNode(change.id, _given(change, _defaults(change)), parent)
        self.nodes[change.kind][change.id] = node
        if parent is not None:
            parent.children.append(node)
        self.tally.created += 1
        return True

    def _update(self, change: FeedChange, node: FeedNode) -> bool:
        values = _given(change, node.values)
        parent = node.parent if change.parent is UNSET or change.kind == "city" else self._parent(change)
        if values == node.values and parent is node.parent:
            self.tally.unchanged += 1
            return True
        node.values = values
        self._rehang(node, parent)
        self.tally.updated += 1
        return True

    def _move(self, change: FeedChange, node: FeedNode) -> bool:
        if change.kind == "city":
            raise Bad("a city has no parent, so it cannot be moved")
        parent = self._parent(change)
        if parent is node.parent:
            self.tally.unchanged += 1
        else:
            self._rehang(node, parent)
            self.tally.moved += 1
        return True

    def _delete(self, noun: str, node: FeedNode | None) -> None:
        if node is None or not node.live:
            self.tally.unchanged += 1
            return
        node.live = False
        for child in node.children:
            if child.parent is node and noun == "company":
                child.live = False
            elif child.parent is node:
                child.parent = None
        node.children = []
        self.tally.deleted += 1

    def _parent(self, change: FeedChange) -> FeedNode | None:
        noun = PARENT_NOUN[change.kind]
        if change.parent is UNSET or change.parent is None:
            if change.kind == "product":
                raise Bad(f"product {change.id!r} needs a parent: the company that sells it")
            return None
        found = self.nodes[noun].get(change.parent)
        if found is None or not found.live:
            raise Bad(f"unknown parent: there is no {noun} {change.parent!r}")
        return found

    def _rehang(self, node: FeedNode, parent: FeedNode | int | None) -> None:
        if parent is node.parent:
            return
        if isinstance(node.parent, FeedNode) and node.id is not None:
            node.parent.escaped = True
        node.parent = parent
        if isinstance(parent, FeedNode):
            parent.children.append(node)


def _defaults(change: FeedChange) -> list[Any]:
    if change.kind == "city":
        return [change.id, None, None]
    return [change.id, True] if change.kind == "company" else [change.id, "product", True]


def _given(change: FeedChange, values: list[Any]) -> list[Any]:
    """The values with those that the line gives; null means not given, but takes a coordinate away."""
    name = values[0] if change.name is None else change.name
    if change.kind == "city":
        latitude = values[1] if change.latitude is UNSET else change.latitude
        return [name, latitude, values[2] if change.longitude is UNSET else change.longitude]
    active = values[-1] if change.is_active is None else change.is_active
    if change.kind == "company":
        return [name, active]
    return [name, values[1] if change.product_kind is None else change.product_kind, active]
