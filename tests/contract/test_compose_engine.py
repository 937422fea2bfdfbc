"""A short part of `make containers`, wherever a container engine runs already."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from backend import __version__
from tests.contract.test_compose import DEVELOPMENT, LEAST_RIGHTS, PRODUCTION
from tests.contract.test_compose_least_rights import PASSWORDS
from tests.servers import ROOT

SET_UPS = {"production": [PRODUCTION], "least rights": [PRODUCTION, LEAST_RIGHTS], "development": [DEVELOPMENT]}
IMAGE = f"citycache:{__version__}"


def docker(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a client's command to its end."""
    return subprocess.run(
        ["docker", *map(str, words)],
        env={**os.environ, **PASSWORDS}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    """One that somebody else has started."""
    if shutil.which("docker") is None or docker("info").returncode:
        pytest.skip("NOT TESTED: no container engine runs here; `make containers` starts one")


@pytest.mark.parametrize("name", SET_UPS)
def test_the_real_tool_reads_each_set_up(name: str) -> None:
    done = docker("compose", *(word for file in SET_UPS[name] for word in ("-f", file)), "config", "--quiet")

    assert done.returncode == 0, done.stderr


def test_the_image_lists_its_commands() -> None:
    if docker("image", "inspect", IMAGE).returncode:
        pytest.skip(f"NOT TESTED: {IMAGE} has not been built on this engine")
    done = docker("run", "--rm", "--network=none", "--read-only", IMAGE, "citycache", "--help")

    assert done.returncode == 0, done.stderr
    assert "verify" in done.stdout
