"""The models hold in all of their states, and a mistake that is put into them breaks the promise that it must.

Here are those that only a model can make; `make model` tries all of them.
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.model import models, spin
from tests.model.mistakes import MISTAKES
from tests.model.models import Mistake
from tests.model.spin import Instance


@pytest.fixture(autouse=True)
def spin_is_there() -> None:
    """Without it nothing is checked: that is a failure in CI, whatever a machine at home allows."""
    if shutil.which("spin") and shutil.which("cc"):
        return
    missing = "spin or a C compiler is missing; scripts/install-test-servers installs both"
    if os.environ.get("CITYCACHE_TESTS_ALLOW_MISSING") == "1" and not os.environ.get("CI"):
        pytest.skip(f"NOT TESTED: {missing}")
    pytest.fail(missing, pytrace=False)


@pytest.mark.parametrize("instance", models.SMALL, ids=str)
def test_every_promise_holds_in_all_states(instance: Instance) -> None:
    checked = spin.check(instance)

    assert checked.broken == ""
    assert checked.states > 10_000


IN_THE_MODEL_ONLY = [mistake for mistake in models.MISTAKES if mistake.instance.macros[-1] not in MISTAKES]


@pytest.mark.parametrize("mistake", IN_THE_MODEL_ONLY, ids=lambda mistake: mistake.instance.macros[-1])
def test_a_mistake_breaks_its_promise(mistake: Mistake) -> None:
    assert spin.shortest(mistake.instance).broken == mistake.breaks
