"""The operators' pages: every command and program of them, as it stands there, on a running system."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.embedded.postgres import find_binaries
from tests.acceptance.test_up import Running
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PAGES = ("reading", "backup", "sizing", "pgbouncer", "managed", "listening", "flower")


def blocks(page: str, language: str = "") -> list[str]:
    """The page's code blocks of a language; commands have none."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for tag, block in found if tag == language]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("docs") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def environment(running: Running) -> dict[str, str]:
    """What an operator's shell has."""
    state = running.state()
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{find_binaries()}:{os.environ['PATH']}",
        "DATABASE_URL": state["database_url"].replace("+psycopg2", ""),
        "CELERY_BROKER_URL": state["broker_url"],
        "API_URL": state["api_url"],
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_works(page: str, environment: dict[str, str]) -> None:
    for script in blocks(page):
        for command in script.replace("\\\n", " ").splitlines():
            done = subprocess.run(
                ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_program_that_listens_hears_a_change(running: Running, environment: dict[str, str], tmp_path: Path) -> None:
    (program,) = blocks("listening", "python")
    said = tmp_path / "said"
    with said.open("wb") as output:
        listener = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=output, stderr=output)
    try:
        until(lambda: "listening" in said.read_text(), 30, "it listens")
        with running.sql() as sql:
            sql.run("INSERT INTO companies (name) VALUES ('x')")
            sql.run("INSERT INTO products (company_id, name) SELECT max(id), 'heard' FROM companies")
        assert listener.wait(30) == 0, said.read_text()
    finally:
        listener.kill()
    assert re.search(r"^catalog\.product\.created product/\d+ 2", said.read_text(), flags=re.MULTILINE), (
        said.read_text()
    )


@pytest.mark.parametrize("page", PAGES)
def test_the_page_names_no_file_that_is_not_there(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    assert f"](docs/{page}.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
