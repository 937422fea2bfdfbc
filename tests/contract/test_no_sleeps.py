"""Tests wait for signals, or ask again until a deadline: a time that only passes is too short on one machine and too
long on another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT

WAITING = ROOT / "tests" / "waiting.py"  # asks again and again
FILES = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path != WAITING]


def sleeps(code: str) -> Iterator[int]:
    """Lines in which something sleeps."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("sleep", "wait_for_timeout"):
                yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_nothing_sleeps(path: Path) -> None:
    assert list(sleeps(path.read_text(encoding="utf-8"))) == []


def test_a_sleep_is_seen_however_it_is_spelled() -> None:
    assert sorted(sleeps("time.sleep(1)\nsleep(1)\nawait asyncio.sleep(0)\npage.wait_for_timeout(5)")) == [1, 2, 3, 4]
