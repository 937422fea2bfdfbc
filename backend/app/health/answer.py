"""What a question came back with, whoever was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """A value, or why there is none; neither: not asked."""

    value: Value | None = None
    failure: str | None = None
