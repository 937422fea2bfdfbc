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


HASTY = """
import logging, os, signal, sys

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "backend.app.beat.scheduler":
            sys.meta_path.remove(self)
            sys.setprofile(stop)

def stop(frame, event, argument):
    if event == "call" and frame.f_code.co_name == "Due":  # amid the module
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Hook())
"""


def test_a_beat_that_is_stopped_while_its_scheduler_is_imported_ends_without_a_word(
    database: str, broker: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HASTY)
    with System(database, broker, tmp_path / "system", LOG_FORMAT="json", PYTHONPATH=str(tmp_path)) as system:
        system.start(["beat"])
        until(lambda: not system.runs("beat"), 60, "it has ended")
        assert [line for line in system.log("beat").splitlines() if not is_json(line)] == []


def is_json(line: str) -> bool:
    """Whether the line is an entry of a log in JSON."""
    try:
        return bool(json.loads(line)["level"])
    except ValueError:
        return False
