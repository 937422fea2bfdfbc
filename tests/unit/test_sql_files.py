"""SQL files and the code beside them hold together: every statement is used, every used one is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from events.sql_files import statements
from tests.servers import ROOT

FILES = [path for house in ("events", "backend") for path in sorted((ROOT / house).rglob("*.sql"))]
NAMED = [path for path in FILES if "-- name:" in path.read_text(encoding="utf-8")]
CODE = {
    path: path.read_text(encoding="utf-8") for house in ("events", "backend") for path in (ROOT / house).rglob("*.py")
}

NOUNS = ("products", "companies", "cities", "product", "company", "city")  # names made of parts: f"patch_{noun}"


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", NAMED, ids=shown)
def test_every_statement_is_used(path: Path) -> None:
    code = "\n".join(text for file, text in CODE.items() if path.name in text or file.stem == path.stem)
    code += "\n".join(text for text in CODE.values() if f"from {_module(path)}" in text)
    code = re.sub(r"\{\w+\}", "{}", code)

    for name in statements(path):
        said = {name, *(name.replace(noun, "{}") for noun in NOUNS)}
        assert any(f'"{spelling}"' in code for spelling in said), f"{shown(path)}: nothing uses {name}"


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", NAMED, ids=shown)
def test_every_statement_has_a_name_of_its_own_and_a_body(path: Path) -> None:
    names = re.findall(r"^-- name: (\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)

    assert len(names) == len(set(names))
    for name, body in statements(path).items():
        code = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
        assert "".join(code).strip(), f"{shown(path)}: {name} is empty"


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_no_percent_sign_stands_alone(path: Path) -> None:
    """psycopg2 reads a lone % as the begin of a parameter; capture and outbox are doubled when they are run."""
    if path.parent.name == "sql" and path.name != "relay.sql":
        return
    text = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
    assert re.sub(r"%\(\w+\)s|%%", "", text).count("%") == 0


SPELLED = {path: path.read_text(encoding="utf-8") for path in FILES} | CODE


@pytest.mark.parametrize("path", [path for path in SPELLED if "alembic" not in path.parts], ids=shown)
def test_no_number_is_cast_behind_its_sign(path: Path) -> None:
    """-5::text is -(5::text), and the least bigint behind its sign is none: CAST takes both together."""
    assert re.findall(r"%\(\w+\)s::(?:text|bigint|integer|int|smallint|numeric)\b(?!\[)", SPELLED[path]) == []


def test_finds_the_files() -> None:
    assert {path.name for path in NAMED} >= {"patch.sql", "diff.sql", "apply.sql", "relay.sql", "ledger.sql"}
