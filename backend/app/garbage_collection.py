"""Python's garbage collector, told that these processes live long and make no cycles to speak of."""

from __future__ import annotations

import gc
from typing import Any, Final

YOUNG: Final = 50_000  # containers made and not freed between two collections; a batch in hand has some thousands


def collect_seldom(**kwargs: Any) -> None:
    """What is loaded by now stays and is looked through no more; what comes later is, but not amid every batch."""
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
