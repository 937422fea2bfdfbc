"""Where JSON is asked for, processes write nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system import System
from tests.waiting import until


@pytest.mark.parametrize(("name", "ready"), [("worker", "ready."), ("beat", "beat: Starting"), ("relay", "lead")])
def test_every_line_is_json(database: str, broker: str, tmp_path: Path, name: str, ready: str) -> None:
    with System(database, broker, tmp_path / "system", LOG_FORMAT="json", PYTHONWARNINGS="ignore") as system:
        system.start([name])
        until(lambda: ready in system.log(name), 60, f"{name} works")
        system.stop()
        lines = system.log(name).splitlines()
    assert lines
    assert [line for line in lines if not is_json(line)] == []


def is_json(line: str) -> bool:
    """Whether the line is an entry of a log in JSON."""
    try:
        return bool(json.loads(line)["level"])
    except ValueError:
        return False
