"""A process that has had large messages in hand gives their memory back."""

from __future__ import annotations

import subprocess
import sys

RESIDENT = """
import os
from pathlib import Path
from backend.app.garbage_collection import collect_seldom, fork_small

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

collect_seldom()
fork_small()
before, kept = resident(), []
"""
LARGE = """
for megabytes in range(9, 0, -1):
    for _ in range(4):
        messages = [bytes(megabytes * 1_000_000) for _ in range(4)]
        kept += [bytes(3_000), bytes(30_000)]  # what outlives them lies above them
        del messages
print(resident() - before - sum(map(len, kept)))
"""
FORK = """
class Request:
    def __init__(self):
        self.body, self.on_end = bytes(100_000), self.end
        kept.append(bytes(30_000))
    def end(self):
        pass

for _ in range(300):
    Request()
if os.fork() == 0:
    print(resident() - before - sum(map(len, kept)))
"""


def told(program: str) -> int:
    """What a program prints that is run by itself."""
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60).stdout)


def test_what_large_messages_took_is_the_systems_again() -> None:
    assert told(RESIDENT + LARGE) < 4_000_000


def test_a_child_has_nothing_of_the_messages_that_its_parent_had() -> None:
    assert told(RESIDENT + FORK) < 4_000_000
