"""The sign of life and its health check."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.app.health import pulse
from tests.servers import ROOT


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "pulse"
    monkeypatch.setenv(pulse.VARIABLE, str(file))
    monkeypatch.setattr(pulse, "_due", 0.0)
    return file


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backend.app.health.pulse", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def age_by(file: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(file, (then, then))


def test_a_process_that_gave_a_sign_is_well(file: Path) -> None:
    pulse.touch()

    assert check("--within", "30").returncode == 0


def test_one_whose_last_sign_is_old_is_not(file: Path) -> None:
    pulse.touch()
    age_by(file, 31)

    done = check("--within", "30")

    assert done.returncode == 1
    assert "31." in done.stdout


def test_one_that_never_gave_a_sign_is_not(file: Path) -> None:
    assert check().returncode == 1


def test_a_check_without_a_file_to_look_at_is_wrong_use(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pulse.VARIABLE)

    assert check().returncode == 2


def test_signs_are_at_most_one_a_second(file: Path) -> None:
    pulse.touch()
    file.unlink()
    pulse.touch()

    assert not file.exists()


def test_no_sign_is_given_where_nobody_checks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pulse.VARIABLE)

    pulse.touch()

    assert not file.exists()


def test_a_sign_that_cannot_be_given_does_not_end_the_work(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pulse.VARIABLE, str(file / "no" / "such" / "folder"))

    pulse.touch()


def test_the_check_imports_nothing_heavy() -> None:
    code = (
        "import sys, backend.app.health.pulse;"
        " print(*(sys.modules.keys() & {'celery', 'pydantic', 'sqlalchemy', 'kombu'}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout.strip() == ""
