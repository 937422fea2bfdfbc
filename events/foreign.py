"""Messages of foreign publishers: no single one of them may stop its consumer, nor fill its memory.

py-amqp decodes a message's properties and routing key before anyone sees the message, and ends the connection over a
string that is not UTF-8, a date beyond the year 9999 or a table nested too deeply. The broker delivers such a message
again after every reconnection, so it would stop all consumers for good. Kombu unpacks what calls itself compressed,
a kilobyte to gigabytes, and makes objects of JSON that names a type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import amqp
import amqp.abstract_channel
import amqp.serialization
from kombu import compression, serialization
from kombu.utils.json import dumps

_library: Any = amqp  # its types do not show what is replaced here
_packing: Any = compression
UNREADABLE: Final = "x-citycache-unreadable"  # header that says why a message could not be read
MOST_BYTES: Final = 16 * 2**20  # of a body; RabbitMQ 4 lets no larger one through, earlier versions do
_take_body: Final = _library.serialization.GenericContent.inbound_body


class Packed(Exception):
    """Compressed bodies are not unpacked."""


class _Lenient(bytes):
    """Bytes whose parts decode to something, whatever they are."""

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return _Lenient(part) if isinstance(part, bytes) else part

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "backslashreplace")


def _load_arguments(format: Any, buffer: bytes, offset: int) -> Any:
    try:
        return _library.serialization.loads(format, buffer, offset)
    except UnicodeDecodeError:
        return _library.serialization.loads(format, _Lenient(buffer), offset)


def _load_properties(message: Any, class_id: int, buffer: bytes, offset: int) -> int:
    try:
        end = _load_leniently(message, class_id, buffer, offset)
    except Exception as failure:  # of one value, whatever it is: there is no rest to be read without it
        message.properties = {}
        _mark(message, f"the message's AMQP properties cannot be read: {failure}")
        return len(buffer)
    message.properties.get("application_headers", {}).pop(UNREADABLE, None)  # it is ours to say so
    return end


def _load_leniently(message: Any, class_id: int, buffer: bytes, offset: int) -> int:
    load = _library.serialization.GenericContent._load_properties
    try:
        return int(load(message, class_id, buffer, offset))
    except UnicodeDecodeError:
        return int(load(message, class_id, _Lenient(buffer), offset))


def _take_part(message: Any, part: bytes) -> None:
    """A part of a body; of one that is too large only the first part is kept."""
    if message.body_size <= MOST_BYTES:
        _take_body(message, part)
        return
    if not message.body_received:
        message.body = part
        _mark(message, f"the body has {message.body_size:,} bytes, more than {MOST_BYTES:,}")
    message.body_received += len(part)
    message.ready = message.body_received >= message.body_size


def _mark(message: Any, reason: str) -> None:
    message.properties.setdefault("application_headers", {})[UNREADABLE] = reason


def _refuse(body: Any) -> Any:
    raise Packed


def _plain(text: Any) -> Any:
    return json.loads(text if isinstance(text, str) else bytes(text))


def tolerate() -> None:
    """Let this process receive messages that cannot be read; harmless when called again."""
    _library.abstract_channel.loads = _load_arguments
    _library.Message._load_properties = _load_properties
    _library.Message.inbound_body = _take_part
    for name in _packing.encoders():
        _packing.register(_packing.get_encoder(name)[0], _refuse, name)
    serialization.register("json", dumps, _plain, "application/json", "utf-8")


def unreadable(headers: Mapping[str, Any]) -> str | None:
    """Why this message cannot be read; None when nothing is known against it."""
    reason = headers.get(UNREADABLE)
    return None if reason is None else str(reason)[:500]
