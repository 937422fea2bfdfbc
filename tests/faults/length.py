"""How long tests of faults last: short ones run always, the whole length with FAULTS=long."""

from __future__ import annotations

import os
from typing import TypeVar

Value = TypeVar("Value", int, float)


def short_or(short: Value, long: Value) -> Value:
    """`short`, or `long` where FAULTS=long is set."""
    return long if os.environ.get("FAULTS") == "long" else short
