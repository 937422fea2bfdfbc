"""A short campaign; `python -m tests.faults` runs long ones, and repeats any of them by its seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import campaign, faults
from tests.faults.world import World

SHORT = campaign.Plan(seed=7, minutes=0.5, kinds=faults.KINDS, longest=2.0, longest_open=5.0)


@pytest.mark.alone
class TestAlone:
    def test_nothing_is_lost_or_wrong_whatever_is_killed(self, tmp_path: Path, end_of_load: Callable[[], None]):
        with World(tmp_path) as world:
            report = campaign.run(world, SHORT, print, end_of_load)
        assert report.complaints == []
        assert report.events > 1_000
        assert report.open_rows > 50
        assert report.fresh_reads > 2
        assert report.faults.total() > 2


def test_kinds_are_chosen_by_the_beginning_of_their_names():
    assert {fault.name for fault in faults.chosen("kill, reset")} == {
        *(f"kill {name}" for name in ("relay", "worker", "beat", "api", "postgres", "rabbitmq", "child")),
        "reset database",
        "reset broker",
    }
    assert faults.chosen("") == list(faults.KINDS)
    assert faults.chosen("no such kind") == []
