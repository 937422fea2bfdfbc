"""A bounded memory: the least lately used goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")
LEAST_OTHERS: Final = 4  # a value that leaves room for fewer is not remembered


class Memory(Generic[Value]):
    """At most so many values, and at most so many bytes of what they hold."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """The value, which has been used now."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def keep(self, key: Hashable, value: Value, size: int) -> None:
        """Remember a value, in place of the one that had this key."""
        self._forget(key)
        self._values[key] = value
        self.weigh(key, value, size)

    def weigh(self, key: Hashable, value: Value, size: int) -> None:
        """Say what the value holds now, in bytes, if it is still remembered."""
        if self._values.get(key) is not value:
            return
        if size > self._most_bytes // LEAST_OTHERS:
            return self._forget(key)
        self._bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        while len(self._values) > self._most or self._bytes > self._most_bytes:
            self._forget(next(iter(self._values)))

    def _forget(self, key: Hashable) -> None:
        if self._values.pop(key, None) is not None:
            self._bytes -= self._sizes.pop(key, 0)
