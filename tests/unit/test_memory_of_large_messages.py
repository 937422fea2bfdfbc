"""A process that has had large messages in hand gives their memory back."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from pathlib import Path
from backend.app.garbage_collection import collect_seldom

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

collect_seldom()
before, kept = resident(), []
for megabytes in range(9, 0, -1):
    for _ in range(4):
        messages = [bytes(megabytes * 1_000_000) for _ in range(4)]
        kept += [bytes(3_000), bytes(30_000)]  # what outlives them lies above them
        del messages
print(resident() - before - sum(map(len, kept)))
"""


def test_what_large_messages_took_is_the_systems_again() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=60)
    assert int(told.stdout) < 4_000_000
