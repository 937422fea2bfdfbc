"""A folder of `up` remembers that its data are a demo's."""

from __future__ import annotations

from pathlib import Path

from backend.embedded.up import begin_demo, is_demo


def test_the_data_of_a_demo_stay_a_demos_in_later_runs(tmp_path: Path) -> None:
    assert not is_demo(tmp_path)
    begin_demo(tmp_path)
    assert is_demo(tmp_path)
