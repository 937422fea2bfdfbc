"""Send dead letters again, straight into the updater's queue: other listeners and the log hear nothing twice."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import amqp

from backend.app import db
from backend.app.caches.patch import as_array
from backend.app.dead_letters import SQL
from backend.app.errors import BrokerAway
from backend.app.settings import settings
from events import contract, topology
from events.errors import BrokerGone
from events.publisher import LOST, connect

PART: Final = 500  # letters of one transaction


def requeue(ids: Sequence[int] | None = None, kind: str | None = None, reason: str | None = None) -> int:
    """Send open letters again, all that match; how many. Raises BrokerAway or DatabaseAway, and then what was not
    sent stays open. What cannot be applied this time either is buried anew."""
    if settings().in_process:
        return _each_part(ids, kind, reason, _apply)
    try:
        connection = connect(settings().celery_broker_url, "requeue", read_timeout=5, write_timeout=5)
    except BrokerGone as failure:
        raise BrokerAway(str(failure)) from failure
    try:
        channel: Any = connection.channel()
        channel.confirm_select()
        return _each_part(ids, kind, reason, lambda letter: _publish(channel, letter))
    except LOST as failure:
        raise BrokerAway(f"the broker is away: {failure!r}") from failure
    finally:
        connection.collect(socket_timeout=1)


def _each_part(ids: Sequence[int] | None, kind: str | None, reason: str | None, send: Any) -> int:
    sent, after = 0, 0
    while True:
        with db.transaction() as connection:
            parameters = {
                "ids": as_array(list(ids)) if ids is not None else None,
                "kind": kind,
                "reason": reason,
                "after": after,
                "limit": PART,
            }
            letters = [dict(row) for row in connection.exec_driver_sql(SQL["take"], parameters).mappings()]
            if not letters:
                return sent
            for letter in letters:
                send(letter)
            taken = [letter["id"] for letter in letters]
            connection.exec_driver_sql(SQL["requeued"], {"ids": as_array(taken)})
        sent, after = sent + len(taken), taken[-1]


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
    channel.basic_publish_confirm(message, exchange="", routing_key=topology.UPDATER.name, confirm_timeout=5)


def _apply(letter: dict[str, Any]) -> None:
    """Without a broker: apply it here."""
    from backend.app.consumer import read_parts
    from backend.app.tasks.batch import Batch
    from backend.app.tasks.events import apply_events

    hints, letters = read_parts(*_message(letter))
    apply_events(Batch(hints, letters), str(uuid4()))
