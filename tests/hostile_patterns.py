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
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and (found := _pattern_of(node, path)):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", found


def _pattern_of(call: ast.Call, path: Path) -> re.Pattern[str] | None:
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "re":
        if function.attr not in CALLS:
            return None
        text = _text(call.args[0])
        assert text is not None, f"{path}:{call.lineno}: the pattern is no literal, so nobody can look at it"
        flags = re.IGNORECASE if "IGNORECASE" in ast.unparse(call) else 0
        return re.compile(text, flags | (re.MULTILINE if "MULTILINE" in ast.unparse(call) else 0))
    given = next((_text(keyword.value) for keyword in call.keywords if keyword.arg == "pattern"), None)
    return re.compile(given) if given else None


def _text(node: ast.AST) -> str | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def hostile(pattern: re.Pattern[str], length: int) -> Iterator[str]:
    """Inputs of this length that nearly match: characters of the pattern again and again, then a wrong end."""
    letters = list(dict.fromkeys(_letters(_parser.parse(pattern.pattern, pattern.flags))))
    whole = "".join(letters)
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
