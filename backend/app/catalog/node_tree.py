"""Reads what PostgreSQL's parser made of an expression, as `pg_rewrite` keeps it, to see what it rests on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

_TOKEN: Final = re.compile(r"[{}()]|(?:\\.|[^\s{}()\\])+", re.DOTALL)
_RESULT: Final = (
    "vartype", "consttype", "paramtype", "funcresulttype", "opresulttype", "resulttype", "casetype", "coalescetype",
    "array_typeid", "aggtype", "wintype", "minmaxtype",
)  # fmt: skip
_FUNCTIONS: Final = ("funcid", "opfuncid", "aggfnoid", "winfnoid")
_TIMES: Final = {1082, 1083, 1114, 1184, 1266}  # date, time, timestamp, and those with a zone


@dataclass
class Node:
    """One node: its name, and its fields with their values."""

    name: str
    fields: dict[str, list[Any]] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """A field that is an oid or an attribute's number; 0 where there is none."""
        values = self.fields.get(name) or ["0"]
        return int(values[0]) if isinstance(values[0], str) and re.fullmatch(r"-?\d+", values[0]) else 0

    @property
    def type(self) -> int:
        """The oid of what the node yields; 0: unknown."""
        return next((self.number(name) for name in _RESULT if name in self.fields), 0)


@dataclass
class Foundation:
    """What an expression rests on."""

    functions: set[int] = field(default_factory=set)  # oids in pg_proc
    operators: set[int] = field(default_factory=set)  # oids in pg_operator
    printed: set[int] = field(default_factory=set)  # types whose output function is called by a cast
    parsed: set[int] = field(default_factory=set)  # types whose input function is
    values_of_now: bool = False  # CURRENT_DATE, CURRENT_USER and so on
    whole_rows: bool = False
    times: bool = False  # constants that are dates or times
    locks: bool = False  # FOR UPDATE and its like
    tables: list[int] = field(default_factory=list)  # oids in pg_class, as often as they are read


def foundation(tree: str) -> Foundation:
    """All of it, from a pg_node_tree's text."""
    found = Foundation()
    for node in _nodes(_parse(tree)):
        _add(found, node)
    return found


def _add(found: Foundation, node: Node) -> None:
    found.functions.update(node.number(name) for name in _FUNCTIONS if name in node.fields)
    found.operators.add(node.number("opno"))
    if node.name == "COERCEVIAIO":
        found.parsed.add(node.number("resulttype"))
        found.printed.update(argument.type for argument in node.fields["arg"] if isinstance(argument, Node))
    found.values_of_now |= node.name in ("SQLVALUEFUNCTION", "NEXTVALUEEXPR")
    found.whole_rows |= node.name == "VAR" and node.number("varattno") == 0
    found.locks |= node.name == "ROWMARKCLAUSE"
    found.tables += [node.number("relid")] if node.name in ("RTE", "RANGETBLENTRY") else []
    found.times |= node.name == "CONST" and node.number("consttype") in _TIMES


def _nodes(values: list[Any]) -> Iterator[Node]:
    for value in values:
        if isinstance(value, Node):
            yield value
            for inner in value.fields.values():
                yield from _nodes(inner)
        elif isinstance(value, list):
            yield from _nodes(value)


def _parse(tree: str) -> list[Any]:
    """The tree as nested nodes, lists and words."""
    stack: list[list[Any]] = [[]]
    nodes: list[Node] = []
    for token in _TOKEN.findall(tree):
        if token == "{":
            nodes.append(Node(""))
            stack.append([])
        elif token == "(":
            stack.append([])
        elif token == "}":
            stack.pop()
            stack[-1].append(nodes.pop())
        elif token == ")":
            closed = stack.pop()
            stack[-1].append(closed)
        elif nodes and not nodes[-1].name:
            nodes[-1].name = token
        elif token.startswith(":") and len(token) > 1 and nodes:
            stack[-1] = nodes[-1].fields.setdefault(token[1:], [])
        else:
            stack[-1].append(token)
    return stack[0]
