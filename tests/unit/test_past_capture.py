"""Where nobody can say whether writes come past capture, whatever fails, what is wrong is mended all the same."""

from __future__ import annotations

import logging

import pytest

from backend.app.errors import DatabaseAway
from backend.app.observing import findings, past_capture
from backend.app.observing.findings import WrongRow
from backend.app.observing.witness import Witness

WRONG = [WrongRow("products", "7", None, {"product_id": 7, "city_id": 1, "company_id": 2})]


@pytest.mark.parametrize(
    ("failure", "says", "has_trace"),
    [
        (RuntimeError(), "RuntimeError", True),
        (KeyError("city_id"), "'city_id'", True),
        (DatabaseAway("no answer\nfrom a"), "no answer", False),
    ],
)
def test_no_failure_of_the_search_for_a_table_ends_the_look(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception, says: str, has_trace: bool
) -> None:
    def fails() -> None:
        raise failure

    monkeypatch.setattr(findings, "snapshot", fails)
    witness = Witness()
    witness._marks.append((0.0, "3"))
    with caplog.at_level(logging.WARNING):
        assert past_capture.tables_of(witness, "products", WRONG) == {}
    assert caplog.messages == [f"nobody can say whether writes come past capture: {says}"]
    assert bool(caplog.records[0].exc_info) is has_trace
