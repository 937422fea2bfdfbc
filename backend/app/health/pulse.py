"""A sign of life: a process that never ends by itself touches a file while its work goes round.

    python -m backend.app.health.pulse --within 30

is the health check of relay, worker and beat: 0 while the last sign is young enough, else 1. That a process exists
says nothing of one that hangs or has lost its servers. Only the standard library is imported: a check takes 30 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

VARIABLE: Final = "PULSE_FILE"  # unset where nobody checks, as in `citycache up`, which watches its children itself
EVERY_SECONDS: Final = 1.0

_due = 0.0  # monotonic seconds


def touch() -> None:
    """Give the sign, at most once a second; never raises: a full disk must not end the work, only the good health."""
    global _due
    now = time.monotonic()
    if now < _due:
        return
    _due = now + EVERY_SECONDS
    if file := os.environ.get(VARIABLE):
        with suppress(OSError):
            Path(file).touch()


def age(file: Path) -> float | None:
    """Seconds since the last sign; None when there never was one."""
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except OSError:
        return None


def main() -> int:
    """The health check."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.app.health.pulse", description="Whether the process gave a sign of life lately."
    )
    parser.add_argument("--within", type=float, default=30.0, help="Seconds that the last sign may be old.")
    within = parser.parse_args().within
    file = os.environ.get(VARIABLE)
    if not file:
        print(f"{VARIABLE} is not set: nobody gives a sign", file=sys.stderr)
        return 2
    seconds = age(Path(file))
    if seconds is None:
        print("no sign of life yet")
    else:
        print(f"last sign of life {seconds:.1f} s ago")
    return 0 if seconds is not None and seconds <= within else 1


if __name__ == "__main__":
    sys.exit(main())
