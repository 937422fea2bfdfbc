"""Send dead letters again, straight into the updater's queue: other listeners and the log hear nothing twice."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any, Final, Literal
from uuid import uuid4

import amqp

from backend.app import db
from backend.app.database.statement import as_array
from backend.app.dead_letters.letters import SQL
from backend.app.errors import BrokerAway
from backend.app.settings import settings
from backend.app.tasks.events import apply_events
from backend.app.worker.batch import Batch
from backend.app.worker.consumer import read_parts
from events import contract, topology
from events.connection import LOST, connect
from events.errors import BrokerGone

PART: Final = 50  # letters of one claim; each may have 256 kB
CLAIM_SECONDS: Final = 60.0  # after which a letter that was claimed and never marked may be sent by another
CONFIRM_SECONDS: Final = 5.0
Send = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Chosen:
    """Which open letters: all that match what is not None."""

    ids: Sequence[int] | None = None
    kind: str | None = None
    reason: str | None = None
    group: str | None = None  # one kind and reason, as `dead_letters.reasons` names them


def requeue(chosen: Chosen) -> int:
    """Send open letters again; how many. Raises BrokerAway or DatabaseAway, and then what was not sent stays open.

    What cannot be applied this time either is buried anew.
    """
    if settings().in_process:
        return _send_all(chosen, _apply)
    try:
        connection = connect(settings().celery_broker_url, "requeue", read_timeout=5, write_timeout=5)
    except BrokerGone as failure:
        raise BrokerAway(str(failure)) from failure
    try:
        channel: Any = connection.channel()
        channel.confirm_select()
        return _send_all(chosen, lambda letter: _publish(channel, letter))
    except LOST as failure:
        raise BrokerAway(f"the broker is away: {failure!r}") from failure
    finally:
        connection.collect(socket_timeout=1)


def _send_all(chosen: Chosen, send: Send) -> int:
    """No transaction is open while something is sent: it may be a patch that closes the very letter."""
    sent, after = 0, 0
    while letters := _claim(chosen, after):
        _send_part(letters, send)
        sent, after = sent + len(letters), letters[-1]["id"]
    return sent


def _send_part(letters: Sequence[dict[str, Any]], send: Send) -> None:
    sent: list[int] = []
    try:
        for letter in letters:
            send(letter)
            sent.append(letter["id"])
    finally:
        _mark("sent", sent)
        _mark("unclaim", [letter["id"] for letter in letters[len(sent) :]])


def _claim(chosen: Chosen, after: int) -> list[dict[str, Any]]:
    ids = None if chosen.ids is None else as_array(list(chosen.ids))
    parameters = asdict(chosen) | {"ids": ids, "after": after, "limit": PART, "seconds": CLAIM_SECONDS}
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


def _publish(channel: Any, letter: dict[str, Any]) -> None:
    body, content_type, headers = _message(letter)
    message = amqp.Message(
        body, content_type=content_type, application_headers=headers, delivery_mode=2, message_id=str(uuid4())
    )
    channel.basic_publish_confirm(
        message, exchange="", routing_key=topology.UPDATER.name, confirm_timeout=CONFIRM_SECONDS
    )


def _apply(letter: dict[str, Any]) -> None:
    """Without a broker: apply it here."""
    hints, letters = read_parts(*_message(letter))
    apply_events(Batch(hints, letters), str(uuid4()))
