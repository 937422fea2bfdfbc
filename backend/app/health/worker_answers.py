"""What workers say of themselves; whoever reaches the broker can answer in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, TypedDict, TypeVar

import msgspec

MOST: Final = 1_000_000_000  # messages that anybody believes a worker to hold

Name = Annotated[str, msgspec.Meta(max_length=255)]
Answer = TypeVar("Answer")


class HoldReason(TypedDict):
    """Why a worker holds events."""

    reason: Name
    since: Annotated[float, msgspec.Meta(ge=0)]  # seconds since the epoch
    sentence: Annotated[str, msgspec.Meta(max_length=1_000)]


class HeldEvents(msgspec.Struct, frozen=True):
    """Event messages that a worker has taken from the queue and not yet acknowledged."""

    messages: Annotated[int, msgspec.Meta(ge=0, le=MOST)]
    oldest: str | None = None  # time of the oldest event; None: not known of all of them
    because: list[HoldReason] = []
    canaries: bool = False  # whether it takes canaries


class HeldRuns(msgspec.Struct, frozen=True):
    """Runs whose messages a worker has."""

    runs: list[Name]


def understood(replies: Iterable[Mapping[str, Any]], kind: type[Answer]) -> dict[str, Answer]:
    """Worker's name → its answer; who does not know the question, or answers something else, is left out."""
    found: dict[str, Answer] = {}
    for name, said in (pair for reply in replies for pair in reply.items()):
        with suppress(msgspec.ValidationError):
            found[name] = msgspec.convert(said, kind)
    return found
