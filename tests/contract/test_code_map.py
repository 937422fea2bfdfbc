"""ARCHITECTURE.md's code map equals what `ls` shows, and few modules lie beside the folders."""

from __future__ import annotations

import re

from tests.servers import ROOT

APP = ROOT / "backend" / "app"
MOST_LOOSE = 8


def test_the_code_map_names_every_folder_in_the_order_of_ls() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    part = text[text.index("\nbackend/app/\n") : text.index("\nbackend/embedded/")]
    folders = sorted(path.name for path in APP.iterdir() if (path / "__init__.py").exists())

    assert re.findall(r"(?m)^  ([a-z_]+)/", part) == folders


def test_few_modules_lie_beside_the_folders_and_the_map_names_them() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    loose = sorted(path.name for path in APP.glob("*.py") if path.name != "__init__.py")

    assert len(loose) <= MOST_LOOSE, loose
    assert [name for name in loose if f"`{name}`" not in text] == []


def test_every_folder_says_what_it_is() -> None:
    silent = [path.parent.name for path in APP.glob("*/__init__.py") if not path.read_text().startswith('"""')]

    assert silent == []
