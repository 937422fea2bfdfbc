"""What `adopt --discover` guesses can be adopted."""

from __future__ import annotations

from pathlib import Path

from tests.adopt import marketplace
from tests.adopt.marketplace import Marketplace


def test_what_is_guessed_is_a_definition_that_can_be_adopted(empty_database: str, tmp_path: Path) -> None:
    marketplace.kufar(empty_database)
    market = Marketplace(empty_database, tmp_path / "catalog.toml", environment={"CATALOG_FILE": ""})

    guessed = market.run("adopt", "--discover")

    assert guessed.code == 0, guessed.err
    assert 'table = "public.companies"' in guessed.out
    assert 'active = "NOT is_hidden AND NOT is_deleted"' in guessed.out
    market.file.write_text(guessed.out, encoding="utf-8")
    assert market.run("adopt", str(market.file)).code == 0
