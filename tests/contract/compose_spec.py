"""Compose files as the Compose Specification reads them: interpolated, merged, checked against its schema.

`compose_spec.json` is the specification's own schema (github.com/compose-spec, Apache License 2.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

SCHEMA = Draft202012Validator(json.loads(Path(__file__).with_suffix(".json").read_text()))
OPEN = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<rest>[^}]*)\}|(?P<bad>.?))")


@dataclass(frozen=True)
class Variable:
    """One `${NAME:-default}` or `${NAME:?why it must be set}`."""

    name: str
    default: str | None  # None: written without a default
    required: bool = False


class NoDuplicates(yaml.SafeLoader):
    """Compose refuses a key that is written twice; YAML's loader takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(problem=f"written twice: {twice}", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def load(file: Path, environment: Mapping[str, str] = {}) -> dict[str, Any]:
    """The file's content with variables replaced as `docker compose` would with this `.env`."""
    return interpolated(yaml.load(file.read_text(), NoDuplicates), environment)


def interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    """Every string in it with its variables replaced; keys are left alone."""
    if isinstance(value, dict):
        return {key: interpolated(inner, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner, environment) for inner in value]
    return OPEN.sub(lambda found: _replace(found, environment), value) if isinstance(value, str) else value


def variables(file: Path) -> list[Variable]:
    """All variables of the file, as written."""
    return [variable for text in _strings(yaml.load(file.read_text(), NoDuplicates)) for variable in _variables(text)]


def errors(content: Mapping[str, Any]) -> list[str]:
    """What the specification's schema has to say against it."""
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in SCHEMA.iter_errors(content)]


def _replace(found: re.Match[str], environment: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    variable = _parse(found)
    if variable.required and not environment.get(variable.name):
        raise LookupError(f"{variable.name} must be set")
    return environment.get(variable.name) or variable.default or ""


def _variables(text: str) -> Iterator[Variable]:
    return (_parse(found) for found in OPEN.finditer(text) if not found["dollar"])


def _parse(found: re.Match[str]) -> Variable:
    """The specification has more forms, of which these files need none."""
    rest = found["rest"] or ""
    if found["name"] and rest.startswith(":?") and "$" not in rest:
        return Variable(found["name"], None, required=True)
    if found["name"] is None or not (rest == "" or rest.startswith(":-")) or "$" in rest:
        raise ValueError(f"no ${{NAME:-default}}: {found.string!r}")
    return Variable(found["name"], rest.removeprefix(":-") if rest else None)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
