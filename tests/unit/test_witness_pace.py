"""The witness takes its third of AUDIT_CORE_SHARE, and more only where a minute could not be kept otherwise."""

from __future__ import annotations

import pytest

from backend.app.observing import auditor, witness
from backend.app.settings import Settings
from tests.conftest import configured_as

TOOK = (0.001, 0.01, 0.05, 0.2, 1.0, 3.0, 10.0, 100.0)  # seconds of one look


@pytest.mark.parametrize("share", [0.001, Settings.model_fields["audit_core_share"].default, 0.05, 1.0])
def test_looks_keep_their_share_of_a_core_or_a_minute(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    with configured_as(monkeypatch, AUDIT_CORE_SHARE=str(share)):
        pauses = {took: witness.pause(took, auditor._share()) for took in TOOK}
    for took, pause in pauses.items():
        taken = took / (took + pause)
        assert pause >= witness.LOOK_SECONDS
        assert taken <= share / 3 or pause >= witness.LONGEST_SECONDS
        assert taken <= witness.MOST_SHARES * share / 3


def test_by_default_a_look_takes_a_tenth_of_a_core_at_most() -> None:
    share = Settings.model_fields["audit_core_share"].default / auditor.STEPS
    assert share * witness.MOST_SHARES == pytest.approx(0.1)
    assert share * witness.LONGEST_SECONDS == pytest.approx(0.1), "seconds of a look, as the settings' page has it"
