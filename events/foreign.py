"""Messages of foreign publishers: no single one of them may stop its consumer.

py-amqp decodes a message's properties and routing key before anyone sees the message, and ends the connection over a
string that is not UTF-8 or a date beyond the year 9999. The broker delivers such a message again after every
reconnection, so it would stop all consumers for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import amqp
import amqp.abstract_channel
import amqp.serialization

_library: Any = amqp  # its types do not show what is replaced here
UNREADABLE_PROPERTIES: Final = "x-citycache-unreadable"  # header that says why the properties could not be read


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
    load = _library.serialization.GenericContent._load_properties
    try:
        return int(load(message, class_id, buffer, offset))
    except UnicodeDecodeError:
        return int(load(message, class_id, _Lenient(buffer), offset))
    except (OverflowError, ValueError, OSError) as failure:  # of a date: there is no rest to be read without it
        message.properties = {"application_headers": {UNREADABLE_PROPERTIES: str(failure)}}
        return len(buffer)


def tolerate() -> None:
    """Let this process receive messages whose properties cannot be read; harmless when called again."""
    _library.abstract_channel.loads = _load_arguments
    _library.Message._load_properties = _load_properties


def unreadable_properties(headers: Mapping[str, Any]) -> str | None:
    """Why this message's properties could not be read; None when they could."""
    return headers.get(UNREADABLE_PROPERTIES)
