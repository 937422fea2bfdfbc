"""What was sent and what became of it, by kind."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Outcomes by kind, noted by many threads."""

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    complaints: list[str] = field(default_factory=list)  # outcomes that must not be
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, outcome: str, number: int = 1) -> None:
        """So many of this kind ended like this."""
        with self._lock:
            self.outcomes[kind][outcome] += number

    def complain(self, kind: str, what: str) -> None:
        """Something of this kind must not have ended like this."""
        with self._lock:
            self.outcomes[kind]["BROKEN"] += 1
            self.complaints.append(f"{kind}: {what}")

    def lines(self) -> list[str]:
        """A table for a person."""
        return [
            f"{kind:<48}{sum(outcomes.values()):>7}  " + ", ".join(f"{name} {n}" for name, n in outcomes.most_common())
            for kind, outcomes in sorted(self.outcomes.items())
        ]
