"""Catalogs of any shape: they can be adopted, and events alone follow whatever is written into them."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, Final

import pytest

from backend.app.adopting.doctor import look
from backend.app.adopting.plan import plan
from backend.app.catalog import definition
from tests.adopt import writes
from tests.adopt.following import adopt_here, beside, follow
from tests.adopt.marketplace import Marketplace
from tests.adopt.shapes import Shape
from tests.adopt.tables import quoted
from tests.plain import Plain

SEEDS: Final = range(*map(int, os.environ.get("SHAPES", "0:8").split(":")))
TRANSACTIONS: Final = 25
SNAPSHOT: Final = "SELECT pg_current_snapshot()::text"
NOTED: Final = "SELECT EXISTS (SELECT FROM {changes} WHERE NOT pg_visible_in_snapshot(xid, %s::pg_snapshot))"


@pytest.mark.parametrize("seed", SEEDS)
def test_events_alone_follow_any_shape(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    shape, market = Shape(seed), Marketplace(empty_database, tmp_path / "catalog.toml")
    chance = random.Random(seed)
    with Plain(empty_database, autocommit=False) as writer, Plain(empty_database) as reader:
        _make(shape, writer, chance)
        market.file.write_text(shape.file, encoding="utf-8")
        with beside(market, monkeypatch):
            assert plan(definition.current()).is_possible
            adopt_here()
            assert _violations(shape, reader) == [], shape.file
            noted = NOTED.format(changes=f"{quoted(shape.schema)}.city_changes")
            for _ in range(TRANSACTIONS):
                before, shown = reader.one(SNAPSHOT), _shown(shape, reader)
                done = writes.transaction(writer, shape.tables, chance)
                assert reader.one(noted, (before,)) or _shown(shape, reader) == shown, "\n".join([shape.file, *done])
                follow(rows=chance.choice([1, 7, 2_000]))
                assert _violations(shape, reader) == [], "\n".join([shape.file, *done])
            assert [found.name for found in look() if not found.is_well] == ["past capture"]  # nobody looks for that


def _shown(shape: Shape, reader: Plain) -> list[list[tuple[Any, ...]]]:
    """What answers of cities show of their tables."""
    return [sorted(reader.all(query), key=str) for query in shape.shown]


def _make(shape: Shape, writer: Plain, chance: random.Random) -> None:
    for statement in shape.makes():
        writer.run(statement)
    writes.fill(writer, shape.tables, chance)
    writer.commit()


def _violations(shape: Shape, reader: Plain) -> list[str]:
    """Where the caches are not what plain SQL says."""
    found = []
    for what, wanted in shape.wanted.items():
        held = shape.held[what]
        found += [f"{what} lack {row}" for row in reader.all(f"({wanted}) EXCEPT ({held})")]
        found += [f"{what} have {row}" for row in reader.all(f"({held}) EXCEPT ({wanted})")]
    return found
