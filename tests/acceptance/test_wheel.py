"""The wheel is whole: installed into an empty folder, without any package index, it runs, imports and verifies.

The folder has spaces and letters beyond ASCII in its name, and its data are named by a relative path. All of it is an
ordinary user's, who is somebody else than root also where the tests are not.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.request
import zipfile
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import pytest

from backend.embedded.identity import user_namespaces_work
from tests.acceptance.test_up import Running
from tests.servers import ROOT

PACKAGES: Final = ("backend", "events", "benchmarks")
FEED: Final = ROOT / "tests" / "data" / "techconf" / "changes.jsonl.gz"
NO_INDEX: Final = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
NOT_IN_IT: Final = {"backend/Dockerfile"}
SOMEBODY: Final = ("unshare", "--user", "--map-user=1000", "--map-group=1000")  # who owns root's files, and no more


def ordinary() -> tuple[str, ...]:
    """What runs a command as an ordinary user, where we are none."""
    return SOMEBODY if os.geteuid() == 0 and user_namespaces_work() else ()


def call(*command: str | Path, cwd: Path, environment: Mapping[str, str], seconds: float = 120) -> str:
    """What a command has printed; an AssertionError with all of it when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, with the build backend that the lock file has."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", place, "."]
    call(*build, cwd=source, environment=os.environ | NO_INDEX)
    return next(place.glob("citycache-*.whl"))


class Installed:
    """The wheel in an environment of its own, whose other packages are those that the tests run with."""

    def __init__(self, wheel: Path, place: Path) -> None:
        self.place = place
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.environment = {**self.environment, **NO_INDEX}
        for name in ("DATABASE_URL", "CELERY_BROKER_URL", "VIRTUAL_ENV"):
            self.environment.pop(name, None)
        call(sys.executable, "-m", "venv", "--without-pip", place / "venv", cwd=place, environment=self.environment)
        self.python = place / "venv" / "bin" / "python"
        self._share_packages()
        pip = (sys.executable, "-m", "pip", "--python", self.python)
        call(*pip, "install", "-q", wheel, cwd=place, environment=self.environment)

    def _share_packages(self) -> None:
        """As if the locked packages had been installed here as well: their modules, and the programs of two of them."""
        library = Path(sysconfig.get_path("purelib", vars={"base": str(self.place / "venv")}))
        shared = [path for path in sys.path if Path(path).name == "site-packages"]
        (library / "locked.pth").write_text("".join(f"{path}\n" for path in shared))
        for entry in entry_points(group="console_scripts"):
            if entry.name in ("celery", "uvicorn"):
                program = self.python.with_name(entry.name)
                code = f"from {entry.module} import {entry.attr}\n{entry.attr}()\n"
                program.write_text(f"#!/bin/sh\n'''exec' '{self.python}' \"$0\" \"$@\"\n' '''\n{code}")
                program.chmod(0o755)

    def run(self, program: str, *arguments: str | Path, seconds: float = 120, **environment: str) -> str:
        """What one of its programs prints in the empty folder."""
        command = (*ordinary(), self.python.with_name(program), *arguments)
        return call(*command, cwd=self.place, environment=self.environment | environment, seconds=seconds)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("leerer Ordner, пустая папка 空"))


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    ).stdout.split()
    files = tracked or [
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    ]
    with zipfile.ZipFile(wheel) as archive:
        assert set(files) - set(archive.namelist()) - NOT_IN_IT == set()


def test_what_is_imported_is_the_installed_one(installed: Installed) -> None:
    told = installed.run("python", "-c", "import backend, events; print(backend.__file__, events.__file__, sep='\\n')")
    assert all(Path(file).is_relative_to(installed.place) for file in told.splitlines()), told
    assert "schema" in installed.run("citycache", "version")


def test_it_runs_imports_and_verifies_in_an_empty_folder(installed: Installed) -> None:
    citycache = (*ordinary(), installed.python.with_name("citycache"))
    data = installed.place / "les données"
    relative = ("--data-dir", data.name)
    with Running(data, *relative, command=citycache, base=installed.environment) as running:
        status = json.loads(installed.run("citycache", "status", *relative, "--json"))
        there = {"DATABASE_URL": status["database_url"]}
        installed.run("citycache", "import", FEED, seconds=200, **there)
        installed.run("citycache", "verify", "--wait", "60", **there)
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/", timeout=10) as page:
            assert "<html" in page.read().decode()
        assert running.end(signal.SIGTERM) == 0, running.said()


def test_who_runs_it_is_an_ordinary_user(installed: Installed) -> None:
    who = installed.run("python", "-c", "import os; print(os.getuid() and os.geteuid())").strip()
    if who == "0":
        pytest.skip("NOT TESTED: nobody but root is here, and user namespaces are not allowed")
    may = "import os; os.setuid(12345)"
    with pytest.raises(AssertionError, match=r"PermissionError|Invalid argument"):
        installed.run("python", "-c", may)
