"""Every regular expression of the code, and inputs that make a careless one slow."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

from tests.servers import ROOT

PACKAGES: Final = ("backend", "events", "benchmarks", "deploy")
CALLS: Final = ("compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer")
OUTSIDE: Final = ("", "\0", "!")  # ends of an input that fit hardly any pattern
MOST_UNITS: Final = 40


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    """(where it stands, pattern) of every literal given to `re` or as `pattern=`, read from the source."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ast.parse(path.read_text())
            for node in ast.walk(module):
                for found in _patterns_of(node, module, path) if isinstance(node, ast.Call) else ():
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", found


def _patterns_of(call: ast.Call, module: ast.Module, path: Path) -> Iterator[re.Pattern[str]]:
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "re":
        if function.attr in CALLS:
            texts = _texts(call.args[0], module)
            assert texts, f"{path}:{call.lineno}: the pattern stands nowhere in this module, so nobody can look at it"
            said = ast.unparse(call)
            flags = sum(
                flag for flag in (re.I, re.M, re.S) if f"re.{flag.name}" in said or f"re.{flag.name[0]}," in said
            )
            yield from (re.compile(text, flags) for text in texts)
        return
    for keyword in call.keywords:
        if keyword.arg == "pattern" and (text := _text(keyword.value)):
            yield re.compile(text)


def _texts(node: ast.AST, module: ast.Module) -> list[str]:
    """The pattern, or all those of the module's own name that it is taken from."""
    if (text := _text(node)) is not None:
        return [text]
    named = next((part.id for part in ast.walk(node) if isinstance(part, ast.Name)), None)
    for statement in module.body:
        target = getattr(statement, "target", None) or next(iter(getattr(statement, "targets", ())), None)
        if isinstance(target, ast.Name) and target.id == named and isinstance(statement, (ast.Assign, ast.AnnAssign)):
            values = statement.value.values if isinstance(statement.value, ast.Dict) else [statement.value]
            return [text for value in values if (text := _text(value)) is not None]
    return []


def _text(node: ast.AST) -> str | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def hostile(pattern: re.Pattern[str], length: int) -> Iterator[str]:
    """Inputs of this length that nearly match: characters of the pattern again and again, then a wrong end."""
    sequence = list(_letters(_parser.parse(pattern.pattern, pattern.flags)))
    letters, whole = list(dict.fromkeys(sequence)), "".join(sequence)
    beginnings = ["", whole, *(whole[:end] for end in range(1, len(whole), max(1, len(whole) // 5)))]
    pairs = ("".join(pair) for pair in itertools.permutations(letters[:8], 2))
    for unit in itertools.islice(itertools.chain(letters, [whole], pairs), MOST_UNITS):
        for beginning in beginnings if unit else []:
            yield (beginning + unit * (length // len(unit) + 1))[:length] + OUTSIDE[len(beginning) % len(OUTSIDE)]


def _letters(parsed: Any) -> Iterator[str]:
    """One character for each literal and class of the pattern, in its order."""
    for operation, argument in parsed:
        if operation in (_constants.LITERAL, _constants.NOT_LITERAL):
            yield chr(argument) if operation is _constants.LITERAL else "a"
        elif operation is _constants.IN:
            yield _of_class(argument)
        elif operation is _constants.ANY:
            yield "a"
        else:
            yield from _inside(argument)


def _inside(argument: Any) -> Iterator[str]:
    """Whatever patterns an operation has in it."""
    for part in argument if isinstance(argument, (tuple, list)) else ():
        if isinstance(part, _parser.SubPattern):
            yield from _letters(part)
        elif isinstance(part, (tuple, list)):
            yield from _inside(part)


def _of_class(members: Any) -> str:
    compiled = re.compile(f"[{''.join(map(_member, members))}]")
    return next((letter for letter in "aA0 -./:\"'\n" if compiled.fullmatch(letter)), "a")


def _member(member: Any) -> str:
    operation, argument = member
    if operation is _constants.NEGATE:
        return "^"
    if operation is _constants.RANGE:
        return f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
    if operation is _constants.LITERAL:
        return re.escape(chr(argument))
    categories = {
        _constants.CATEGORY_DIGIT: r"\d", _constants.CATEGORY_SPACE: r"\s", _constants.CATEGORY_WORD: r"\w",
        _constants.CATEGORY_NOT_DIGIT: r"\D", _constants.CATEGORY_NOT_SPACE: r"\S", _constants.CATEGORY_NOT_WORD: r"\W",
    }  # fmt: skip
    return categories[argument]
