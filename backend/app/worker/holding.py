"""Why events are held: every process of a worker says it in memory that all of them share, and its main process reads.

Events are held while what fails is not theirs: a server is away, or patches of all keys fail. That is an alarm, for
whoever asks the worker (`held_events`), in its metrics, and in its log.
"""

from __future__ import annotations

import json
import mmap
import sys
import time
from contextlib import suppress
from typing import Any, Final

from backend.app.errors import Away, BrokerAway, DatabaseAway, EveryKeyFails, LanesHeld, TooLong
from backend.app.telemetry import metrics

SLOTS: Final = 513  # the most children that a worker may have, and its main process
SLOT_BYTES: Final = 2_048  # has room for the sentence in any letters
MOST_TEXT: Final = 200  # characters of a sentence
REASONS: Final[dict[type[Away], str]] = {  # the first that fits
    EveryKeyFails: "every_key_fails",
    LanesHeld: "lanes_held",
    DatabaseAway: "database_away",
    BrokerAway: "broker_away",
    TooLong: "too_long",
}

_shared: Final = mmap.mmap(-1, SLOTS * SLOT_BYTES)  # made before the children are forked
_since: dict[str, float] = {}  # reason → seconds since the epoch, of this process


def begin(failure: BaseException | None) -> None:
    """Events wait, because of this; called again at each try."""
    reason = next((name for kind, name in REASONS.items() if isinstance(failure, kind)), "unknown")
    if reason not in _since:
        end()
        _since[reason] = time.time()
        metrics.WORKER_HOLDS.labels(reason).set(1)
    _write({"reason": reason, "since": _since[reason], "sentence": str(failure)[:MOST_TEXT]})


def end() -> None:
    """They wait no more; also called by a child that begins, since the one before may have died while it waited."""
    _since.clear()
    for reason in (*REASONS.values(), "unknown"):
        metrics.WORKER_HOLDS.labels(reason).set(0)
    _write(None)


def reasons() -> list[dict[str, Any]]:
    """What all processes of this worker say: reason, since when, and a sentence; those that hold nothing are silent."""
    found = []
    for slot in range(SLOTS):
        if not _shared[slot * SLOT_BYTES]:  # nearly all of them
            continue
        said = _shared[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES].rstrip(b"\0")
        with suppress(ValueError):  # half written
            found.append(json.loads(said))
    return [one for one in found if one]


def _write(what: dict[str, Any] | None) -> None:
    billiard = sys.modules.get("billiard.process")
    index = getattr(billiard.current_process(), "index", None) if billiard else None
    slot = 0 if index is None else 1 + index % (SLOTS - 1)
    text = json.dumps(what, ensure_ascii=False).encode(errors="replace") if what else b""
    _shared[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES] = text.ljust(SLOT_BYTES, b"\0")
