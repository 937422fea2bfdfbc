"""No word has two meanings: names of classes and modules beside the glossary of ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from tests.servers import ROOT

MODULES: Final = [
    path
    for house in ("backend", "events")
    for path in sorted((ROOT / house).rglob("*.py"))
    if "alembic" not in path.parts and path.name != "__init__.py"
]
SHARED: Final = {  # names of modules that stand in several folders, and what is the same thing in all of them
    "audit_log": "the audit log: its table, its endpoint",
    "cities": "cities of the catalog: their endpoints, those on the map",
    "connection": "a connection to the broker: any process's, the worker's",
    "dead_letters": "dead letters: their endpoints, their command",
    "errors": "the errors of the house that it stands in",
    "importing": "the import of a change feed, its command",
    "incidents": "incidents, their endpoint",
    "metrics": "metrics: all of them, those of the API, those of the relay",
    "process": "this folder as a process",
    "pulse": "a sign of life: anybody's, the worker's",
    "readings": "numbers that are read when somebody looks: for Prometheus, for the console",
    "rebuilds": "rebuilds, their tasks",
    "removal": "the deletion of a catalog row, its endpoints",
    "replay": "the replay, its command",
    "rows": "rows of the catalog: single ones, those that a feed names",
    "schedule": "the schedule, what the console shows of it",
    "search": "the console's search, its endpoint",
    "tables": "the SQLAlchemy tables of the folder that they stand in",
}


def classes() -> Iterator[tuple[str, str]]:
    """Names without the underscore of private ones, and where they stand."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name.lstrip("_"), f"{path.relative_to(ROOT)}:{node.lineno}"


def twice(names: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    places = defaultdict(list)
    for name, place in names:
        places[name].append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def modules() -> Iterator[tuple[str, str]]:
    for path in MODULES:
        yield path.stem, str(path.relative_to(ROOT))


def glossary() -> dict[str, list[str]]:
    """Each word with those that are not used for it."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| ([^|]+) \| [^|]+ \| ([^|]*) \|$", text[text.index("\n## Glossary\n") :])
    return {word: [other for other in re.split(r",\s*", others.strip()) if other] for word, others in rows[1:]}


def words(name: str) -> set[str]:
    """The words of a name, in the singular as well."""
    found = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}
    return found | {word.removesuffix("s") for word in found}


def test_no_class_has_the_name_of_another() -> None:
    assert twice(classes()) == {}


def test_modules_of_one_name_are_about_the_same_thing() -> None:
    assert sorted(twice(modules())) == sorted(SHARED)


def test_no_name_uses_a_word_that_the_glossary_gave_up() -> None:
    given_up = {other: word for word, others in glossary().items() for other in others}
    assert len(given_up) > 20
    wrong = [
        f"{place}: {name} says {word}, the glossary {given_up[word]}"
        for name, place in (*classes(), *modules())
        for word in sorted(words(name) & set(given_up))
    ]
    assert wrong == []


def test_every_word_stands_in_the_glossary_once() -> None:
    known = list(glossary())
    assert len(known) > 20
    others = [other for others in glossary().values() for other in others]
    assert len(others) == len(set(others))
    assert set(known).isdisjoint(others)
