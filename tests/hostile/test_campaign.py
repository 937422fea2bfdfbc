"""A short campaign; `python -m tests.hostile` runs long ones, and repeats any of them by its seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.hostile import campaign
from tests.hostile.requests import requests
from tests.hostile.rows import attempts
from tests.hostile.siege import Siege

SECONDS = 15.0
GENEROUS_SECONDS = 20.0  # for each good change, while servers and parts run
GENEROUS_BYTES = 200 * 2**20  # over the usual: a bomb has 256 MiB
SUDDEN = ("messages", "requests", "rows", "settings", "clock")  # that need no long wait


@pytest.mark.alone
class TestAlone:
    @pytest.mark.timeout(600)
    def test_good_changes_pass_and_nothing_needs_a_person_whatever_is_sent(self, tmp_path: Path):
        with Siege(tmp_path, due_seconds=5.0) as siege:
            report = campaign.run(siege, campaign.Plan(seed=7, seconds=SECONDS, usual_seconds=4.0, kinds=SUDDEN))

        assert report.complaints == []
        assert report.calm_probes.longest < GENEROUS_SECONDS
        assert {name for name, usual in report.usual.items() if report.most[name] > usual + GENEROUS_BYTES} == set()
        for sent in ("message: ", "request: "):
            assert sum(kind.startswith(sent) for kind in report.tally.outcomes) > 5


@pytest.mark.parametrize("generate", [requests, attempts])
def test_the_same_seed_gives_the_same(generate: object):
    assert list(generate(random.Random(1))) == list(generate(random.Random(1)))  # type: ignore[operator]
    assert list(generate(random.Random(1))) != list(generate(random.Random(2)))  # type: ignore[operator]
