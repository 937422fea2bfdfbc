"""The walk of the README, in both languages, on a running system: every command as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backend.app.settings import Settings
from tests.acceptance.test_up import Running

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.ru.md")
TABLES = ("docs/settings.md", "docs/settings.ru.md", "docs/commands.md", "docs/commands.ru.md")


def section(name: str, number: int) -> str:
    """The text below the README's heading of this number (## level, from 0)."""
    return re.split(r"^## .*$", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)[number + 1]


def commands(text: str) -> list[str]:
    """The commands of its code blocks; continued lines are one, comments fall away."""
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip()]


WALK = commands(section("README.md", 1))
THOUSANDS = {"README.md": r"(?<=\d),(?=\d{3})", "README.ru.md": r"(?<=\d) (?=\d{3})"}  # what stands between them


def figures(name: str) -> list[list[float]]:
    """The numbers of each row of its table of figures."""
    text = re.sub(r"\bp\d\d\b", "", (ROOT / name).read_text(encoding="utf-8"))
    text = re.sub(THOUSANDS[name], "", text.partition("](docs/benchmarks.svg)")[0])
    rows = re.findall(r"^\|.*", text.rpartition("|---|---|---|\n")[2], flags=re.MULTILINE)
    return [[float(number.replace(",", ".")) for number in re.findall(r"\d+(?:[.,]\d+)?", row)] for row in rows]


def test_both_languages_have_the_same_figures() -> None:
    first, second = (figures(name) for name in READMES)
    assert first == second
    assert len(first) > 10


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    with Running(tmp_path_factory.mktemp("readme") / "data") as running:
        yield running


def as_here(command: str, running: Running) -> str:
    """The same command on this test's ports and folder."""
    data_dir = f"--data-dir {running.data_dir}"
    run = running.query("SELECT task_id FROM task_runs WHERE task = 'refresh_all_caches' LIMIT 1")
    command = re.sub(r"\bcitycache (import|verify|preview|replay)\b", rf"\g<0> {data_dir}", command)
    replaced = {
        "localhost:8000": f"localhost:{running.port}",
        "citycache status": f"citycache status {data_dir}",
        "curl -s": "curl -sS --fail-with-body",
        ". .venv/bin/activate": "true",
        "TASK_ID": str(run[0][0]) if run else "TASK_ID",
        "2026-01-31T12:00:00Z": running.query(
            "SELECT to_char(now() - interval '1 minute', 'YYYY-MM-DD\"T\"HH24:MI:SSZ')"
        )[0][0],
    }
    for there, here in replaced.items():
        command = command.replace(there, here)
    return command


@pytest.mark.timeout(900)
def test_every_command_of_the_walk_works(running: Running):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "API_URL": f"http://localhost:{running.port}",
    }
    for name in ("DATABASE_URL", "CELERY_BROKER_URL"):
        environment.pop(name, None)
    assert len(WALK) > 10
    for command in WALK:
        done = subprocess.run(
            ["bash", "-c", as_here(command, running)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_both_languages_say_the_same_commands():
    english, russian = (re.sub(r"#.*", "", "\n".join(commands(section(name, 1)))).split() for name in READMES)
    assert english == russian


def first_column(name: str) -> list[str]:
    """What is written as code in the first column of a page's tables."""
    lines = (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()
    return [code for line in lines if line.startswith("| `") for code in re.findall(r"`([^`]+)`", line.split(" | ")[0])]


@pytest.mark.parametrize("page", ["settings", "commands"])
def test_both_languages_have_the_same_rows(page: str):
    assert sorted(first_column(f"{page}.md")) == sorted(first_column(f"{page}.ru.md"))


def test_every_setting_stands_in_the_table():
    assert {name.upper() for name in Settings.model_fields} <= set(first_column("settings.md"))


@pytest.mark.parametrize("name", [*READMES, *TABLES])
def test_names_no_file_that_is_not_there(name: str):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not ((ROOT / name).parent / link).exists()] == []
