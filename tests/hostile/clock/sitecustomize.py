"""Read by a Python that libfaketime is loaded into: it mistakes the absolute sleeps of `time.sleep`, and no other."""

from __future__ import annotations

import select
import time


def sleep(seconds: float) -> None:
    """By a call that takes a duration."""
    select.select([], [], [], seconds)


time.sleep = sleep
