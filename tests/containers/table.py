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
        """Rows that belong together: one that must not fail ends the part, not the walk."""
        print(f"\n{title}", flush=True)
        try:
            yield
        except (Failed, AssertionError):
            self.failures += 1

    @contextmanager
    def step(self, what: str, must: bool = False) -> Iterator[list[str]]:
        """Time it; what is put into the list is shown. A failure is counted, or raised where it must not be."""
        seen: list[str] = []
        begin = time.monotonic()
        try:
            yield seen
        except (Failed, AssertionError) as failure:
            seen.append(f"FAILED: {failure}")
            if must:
                raise
            self.failures += 1
        finally:
            print(f"  {what:<52}{time.monotonic() - begin:>7.1f} s  {'; '.join(seen)}", flush=True)
