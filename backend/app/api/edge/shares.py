"""One caller's part of what all callers share."""

from __future__ import annotations

import ipaddress
from collections import Counter
from functools import lru_cache


@lru_cache(maxsize=10_000)
def network(address: str | None) -> str:
    """Who is one caller: an IPv4 address, or the /64 network that one IPv6 customer has."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return f"address {address}"
    return f"address {ipaddress.ip_network((parsed, 64), strict=False) if parsed.version == 6 else parsed}"


class Pool:
    """Places of a pool, of which one caller gets a part at most."""

    def __init__(self, places: int, each: int) -> None:
        self._places, self._each = places, each
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._taken.total()

    def take(self, caller: str) -> bool:
        """Whether the caller got a place, which it has to give back."""
        if self._taken.total() >= self._places or self._taken[caller] >= self._each:
            return False
        self._taken[caller] += 1
        return True

    def give(self, caller: str) -> None:
        """Back, for others."""
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]
