"""What was tried, how long it took and what was seen, printed as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.containers.shell import Failed


@dataclass
class Table:
    """One row a step."""

    failures: int = 0
    _title: str = field(default="", repr=False)

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """Rows that build on each other: the first that fails ends the part, not the walk."""
        print(f"\n{title}", flush=True)
        try:
            yield
        except (Failed, AssertionError):
            self.failures += 1

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Time it; what is put into the list is shown."""
        seen: list[str] = []
        begin = time.monotonic()
        try:
            yield seen
        except (Failed, AssertionError) as failure:
            seen.append(f"FAILED: {failure}")
            raise
        finally:
            print(f"  {what:<52}{time.monotonic() - begin:>7.1f} s  {'; '.join(seen)}", flush=True)
