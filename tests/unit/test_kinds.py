"""Sentences of what can be wrong."""

from __future__ import annotations

import pytest

from backend.app.health.kinds import KINDS, Kind


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("strange", [None, "many", ["a"], {}])
def test_every_kind_is_told_whatever_its_values_are(kind: Kind, strange: object) -> None:
    named = dict.fromkeys(("seconds", "task", "error", "messages", "sentence"), strange)

    assert kind.sentence(named, 3.0)
    assert "{" not in kind.sentence({}, 3.0)


def test_what_a_sentence_lacks_is_unknown() -> None:
    assert KINDS["run_missed"].sentence({}, 7.4) == "unknown was due 7 s ago and has not been queued."
