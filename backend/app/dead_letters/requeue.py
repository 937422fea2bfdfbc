"""Send dead letters again, straight into the updater's queue: other listeners and the log hear nothing twice."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any, Final, Literal
from uuid import uuid4

from backend.app import db
from backend.app.database.statement import as_array
from backend.app.dead_letters.letters import SQL
from backend.app.errors import BrokerAway
from backend.app.settings import settings
from backend.app.tasks.events import apply_events
from backend.app.worker.batch import Batch
from backend.app.worker.consumer import read_parts
from events import contract, topology
from events.confirms import Confirms
from events.connection import LOST, connect
from events.errors import BrokerGone

PART: Final = 50  # letters of one claim; each may have 256 kB
CLAIM_SECONDS: Final = 60.0  # after which a letter that was claimed and never marked may be sent by another
CONFIRM_SECONDS: Final = 5.0
Send = Callable[[Sequence[dict[str, Any]]], Iterator[int]]  # letters; the ids of those that were sent


@dataclass(frozen=True)
class Chosen:
    """Which open letters: all that match what is not None."""

    ids: Sequence[int] | None = None
    kind: str | None = None
    reason: str | None = None
    group: str | None = None  # one kind and reason, as `dead_letters.reasons` names them


@dataclass(frozen=True)
class SentAgain:
    """What became of a request to send letters again."""

    requeued: int
    more: bool  # time was over; others that match may be open


def requeue(chosen: Chosen, seconds: float = float("inf")) -> SentAgain:
    """Send open letters again, as many parts as begin within `seconds`, one at least. Raises BrokerAway or
    DatabaseAway, and then what was not sent stays open.

    What cannot be applied this time either is buried anew.
    """
    until = time.monotonic() + seconds
    if settings().in_process:
        return _send_all(chosen, one_by_one(_apply), until)
    try:
        connection = connect(settings().celery_broker_url, "requeue", read_timeout=5, write_timeout=5)
    except BrokerGone as failure:
        raise BrokerAway(str(failure)) from failure
    try:
        return _send_all(chosen, _Publishing(connection.channel()), until)
    except LOST as failure:
        raise BrokerAway(f"the broker is away: {failure!r}") from failure
    finally:
        connection.collect(socket_timeout=1)


def one_by_one(send: Callable[[dict[str, Any]], None]) -> Send:
    """Letters that are sent one after the other."""

    def sending(letters: Sequence[dict[str, Any]]) -> Iterator[int]:
        for letter in letters:
            send(letter)
            yield letter["id"]

    return sending


def _send_all(chosen: Chosen, send: Send, until: float = float("inf")) -> SentAgain:
    """No transaction is open while something is sent: it may be a patch that closes the very letter. What fails again
    and is buried anew meanwhile is not sent once more."""
    with db.transaction() as connection:
        newest: int = connection.exec_driver_sql(SQL["newest"]).scalar_one()
    sent, after = 0, 0
    while letters := _claim(chosen, after, newest):
        _send_part(letters, send)
        sent, after = sent + len(letters), letters[-1]["id"]
        if time.monotonic() >= until:
            return SentAgain(sent, more=len(letters) == PART)
    return SentAgain(sent, more=False)


def _send_part(letters: Sequence[dict[str, Any]], send: Send) -> None:
    sent: set[int] = set()
    try:
        for letter_id in send(letters):
            sent.add(letter_id)
    finally:
        _mark("sent", sorted(sent))
        _mark("unclaim", [letter["id"] for letter in letters if letter["id"] not in sent])


def _claim(chosen: Chosen, after: int, newest: int) -> list[dict[str, Any]]:
    ids = None if chosen.ids is None else as_array(list(chosen.ids))
    bounds = {"after": after, "newest": newest, "limit": PART, "seconds": CLAIM_SECONDS}
    parameters = asdict(chosen) | {"ids": ids} | bounds
    with db.transaction() as connection:
        rows = [dict(row) for row in connection.exec_driver_sql(SQL["claim"], parameters).mappings()]
    return sorted(rows, key=itemgetter("id"))


def _mark(how: Literal["sent", "unclaim"], ids: list[int]) -> None:
    if ids:
        with db.transaction() as connection:
            connection.exec_driver_sql(SQL[how], {"ids": as_array(ids)})


def _message(letter: dict[str, Any]) -> tuple[bytes, str, dict[str, Any]]:
    """Body, content type and headers as they were; a key that failed travels as an event of that key."""
    if letter["kind"] == "failed":
        return _event_of(letter), contract.BATCH, {}
    payload = letter["payload"] or ""
    body = base64.b64decode(payload) if letter["payload_encoding"] == "base64" else payload.encode()
    return body, letter["content_type"] or "", letter["headers"] or {}


def _event_of(letter: dict[str, Any]) -> bytes:
    noun = letter["subject"].partition("/")[0]
    what = "updated" if "/" in letter["subject"] else "truncated"
    at = json.loads(letter["payload"] or "{}").get("time") or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    event_id = letter["event_id"] or str(uuid4())
    return contract.encode(
        [contract.event(event_id, f"catalog.{noun}.{what}", letter["subject"], at, None, None, None)]
    )


class _Publishing:
    """Publishes a part, then waits until the broker has all of it: a wait for each would be one of its disk."""

    def __init__(self, channel: Any) -> None:
        self._connection = channel.connection
        self._confirms: Confirms[int] = Confirms(channel)

    def __call__(self, letters: Sequence[dict[str, Any]]) -> Iterator[int]:
        confirms = self._confirms
        try:
            for letter in letters:
                self._publish(letter)
            deadline = time.monotonic() + CONFIRM_SECONDS
            while confirms.under_way:
                self._connection.drain_events(timeout=max(0.01, deadline - time.monotonic()))
        finally:
            yield from confirms.taken
        if confirms.held:
            reasons = "; ".join(sorted(set(confirms.held.values())))
            raise BrokerAway(f"the broker did not take {len(confirms.held)} of them: {reasons}")
        confirms.forget()

    def _publish(self, letter: dict[str, Any]) -> None:
        body, content_type, headers = _message(letter)
        properties = {"content_type": content_type, "application_headers": headers}
        self._confirms.publish(letter["id"], body, "", topology.UPDATER.name, **properties)


def _apply(letter: dict[str, Any]) -> None:
    """Without a broker: apply it here."""
    hints, letters = read_parts(*_message(letter))
    apply_events(Batch(hints, letters), str(uuid4()))
