"""The events of the catalog and their encoding: CloudEvents 1.0, in JSON batches of one type.

`asyncapi.yaml` beside this file says the same for readers of other languages; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from events import foreign, json_text
from events.errors import Malformed, UnknownType

SOURCE: Final = "/citycache/catalog"
BATCH: Final = "application/cloudevents-batch+json"
STRUCTURED: Final = "application/cloudevents+json"
MOST_EVENTS: Final = 200  # of one message
MOST_BYTES: Final = 128 * 1024  # of one message; a single larger event still travels, alone
LONE_BYTES: Final = 2**20  # a larger body, of whatever publisher, has to be one event: bounds what decoding makes of it
MOST_ID: Final = 1_000  # characters
MOST_TIME: Final = 64
MOST_TRACEPARENT: Final = 512
SHOWN: Final = 80  # characters of foreign text in a reason

TYPES: Final = (
    *(
        f"catalog.{noun}.{what}"
        for noun in ("product", "company", "city")
        for what in ("created", "updated", "deleted")
    ),
    "catalog.product.truncated",
    "catalog.company.truncated",
    "catalog.city.truncated",
    *(f"catalog.watched.{what}" for what in ("created", "updated", "deleted", "truncated")),
)
CANARY: Final = "citycache.canary.updated"  # between our own parts; outside of catalog.#, so nobody else hears it
KNOWN: Final = (*TYPES, CANARY)
_NOUN_OF: Final = {name: name.split(".")[1] for name in KNOWN}
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what decoding foreign bytes may raise
MOST_NESTED: Final = 200  # levels of arrays and objects; many readers give up somewhere above
MOST_REASON: Final = 500  # characters of the reason why an event travels slim
TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_KEY: Final = re.compile(r"-?[0-9]{1,19}")
LEAST_BIGINT: Final = -(2**63)
LARGEST_BIGINT: Final = 2**63 - 1


Image = str | bytes | None  # JSON text of a row, as PostgreSQL wrote it


class Change(msgspec.Struct, frozen=True, gc=False):
    """What happened to one row; columns as PostgreSQL's row_to_json writes them."""

    before: msgspec.Raw = msgspec.Raw(b"null")  # the row, or null when it was created
    after: msgspec.Raw = msgspec.Raw(b"null")  # the row, or null when it was deleted
    changed: list[str] = []  # columns whose value differs; empty unless updated


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False, gc=False):
    """One CloudEvent."""

    id: str  # UUID, the same at every redelivery and replay
    type: str  # one of TYPES, and the routing key
    source: str
    subject: str  # 'product/123'; the noun alone when truncated
    time: str  # RFC 3339, UTC, when the row was written
    data: Change | None  # null when the event travels slim
    specversion: str = msgspec.field(default="")
    datacontenttype: str = msgspec.field(default="")
    traceparent: str | None = None  # W3C trace context of the writer
    slim: bool = False  # without its data, which was too large or not readable
    slimreason: str | None = None  # why, for a person


class Hint(msgspec.Struct, frozen=True, gc=False):
    """What a consumer needs of an event: the key to look at again."""

    noun: str  # product, company, city, canary; watched: a row that decides about others
    id: int | None  # None: the whole table was truncated
    event_id: str
    time: str
    traceparent: str | None


_event = msgspec.json.Decoder(Event)
_events = msgspec.json.Decoder(list[Event])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_lone_event = msgspec.json.Decoder(tuple[Event])
_lone_raw = msgspec.json.Decoder(tuple[msgspec.Raw])
_row = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def event(
    event_id: str, kind: str, subject: str, time: str, before: Image, after: Image, traceparent: str | None
) -> Event:
    """An event from the outbox's columns; raises one of UNREADABLE when an image is no row that readers could read."""
    data = Change(_raw(before), _raw(after), changed_columns(before, after))
    return _enveloped(event_id, kind, subject, time, data, traceparent)


def slim_event(event_id: str, kind: str, subject: str, time: str, traceparent: str | None, reason: str) -> Event:
    """The same event without its data, and why."""
    bare = _enveloped(event_id, kind, subject, time, None, traceparent)
    return msgspec.structs.replace(bare, slim=True, slimreason=reason[:MOST_REASON])


def _enveloped(
    event_id: str, kind: str, subject: str, time: str, data: Change | None, traceparent: str | None
) -> Event:
    return Event(
        id=event_id,
        type=kind,
        source=SOURCE,
        subject=subject,
        time=time,
        data=data,
        specversion="1.0",
        datacontenttype="application/json",
        traceparent=traceparent if traceparent and TRACEPARENT.fullmatch(traceparent) else None,
    )


def _raw(image: Image) -> msgspec.Raw:
    return msgspec.Raw(b"null" if image is None else _bytes(image))


def _bytes(image: str | bytes) -> bytes:
    return image if isinstance(image, bytes) else image.encode()


def changed_columns(before: Image, after: Image) -> list[str]:
    """Names of the columns whose JSON text differs between the two rows; [] if either is missing.

    Raises one of UNREADABLE when a row is nested too deeply or not UTF-8.
    """
    old, new = _columns(before), _columns(after)
    if old is None or new is None:
        return []
    return [name for name, value in new.items() if old.get(name) != value]


def _columns(image: Image) -> dict[str, msgspec.Raw] | None:
    if image is None:
        return None
    text = _bytes(image)
    if not text.isascii():
        text.decode()  # readers take it for UTF-8, and the decoder looks only at what it decodes
    if text.count(b"[") + text.count(b"{") > MOST_NESTED and json_text.depth(text) > MOST_NESTED:
        raise RecursionError(f"its row is nested more than {MOST_NESTED} levels deep")
    try:
        return _row.decode(text)
    except msgspec.DecodeError:
        return _row.decode(json_text.legible(text))


def encode_one(happened: Event) -> bytes:
    """One event as JSON."""
    return _encoder.encode(happened)


def join(parts: Iterable[bytes]) -> bytes:
    """A message body from encoded events: a JSON array."""
    return b"[" + b",".join(parts) + b"]"


def encode(happened: Iterable[Event]) -> bytes:
    """A message body: a JSON array of events."""
    return join(map(encode_one, happened))


def decode(body: bytes | str, content_type: str, headers: Mapping[str, Any]) -> Iterator[Event | Malformed]:
    """The events of a message in batch, structured or binary mode; what cannot be read comes as an error instead.

    A batch with more than MOST_EVENTS of those is not read any further: it may have half a million of them.
    """
    if failure := foreign.unreadable(headers):
        yield Malformed(failure)
    elif headers.get("compression"):
        yield Malformed(f"compressed bodies ({shown(headers['compression'])}) are not unpacked")
    elif content_type.startswith(BATCH):
        yield from _decode_batch(body)
    elif content_type.startswith(STRUCTURED):
        yield _decode_one(body)
    elif attributes := _binary_attributes(headers):
        yield _decode_binary(body, attributes)
    else:
        yield Malformed(f"content type {shown(content_type)} is not a CloudEvent, and there are no cloudEvents headers")


def _decode_batch(body: bytes | str) -> Iterator[Event | Malformed]:
    is_large = len(body) > LONE_BYTES
    try:
        decoded = _lone_event.decode(body) if is_large else _events.decode(body)
    except UNREADABLE as failure:
        if legible := _legible(body, failure):
            yield from _decode_batch(legible)
        else:
            yield from _decode_apart(body)
        return
    if not decoded:
        yield Malformed("the batch is empty")
    yield from decoded


def _legible(body: bytes | str, failure: Exception) -> bytes | None:
    """The body with halves of surrogate pairs spelt out, where that is what stands in the way."""
    if isinstance(failure, (msgspec.ValidationError, RecursionError)):
        return None
    text = _bytes(body)
    legible = json_text.legible(text)
    return legible if legible != text else None


def _decode_apart(body: bytes | str) -> Iterator[Event | Malformed]:
    try:
        raws = _lone_raw.decode(body) if len(body) > LONE_BYTES else _raws.decode(body)
    except UNREADABLE as failure:
        yield Malformed(f"the body is not a JSON array of events: {failure}")
        return
    unreadable = 0
    for raw in raws:
        happened = _decode_one(bytes(raw))
        yield happened
        unreadable += isinstance(happened, Malformed)
        if unreadable > MOST_EVENTS:
            return


def _decode_one(body: bytes | str) -> Event | Malformed:
    try:
        return _event.decode(body)
    except UNREADABLE as failure:
        legible = _legible(body, failure)
        return _decode_one(legible) if legible else Malformed(f"not a CloudEvent: {failure}")


def _binary_attributes(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name[len("cloudEvents:") :]: value
        for name, value in headers.items()
        if isinstance(name, str) and name.startswith(("cloudEvents:", "cloudEvents_"))
    }


def _decode_binary(body: bytes | str, attributes: dict[str, Any]) -> Event | Malformed:
    try:
        data = msgspec.json.decode(body, type=Change | None)
        return msgspec.convert({**attributes, "data": data}, Event)
    except UNREADABLE as failure:
        return Malformed(f"not a CloudEvent in binary mode: {failure}")


def hint(happened: Event) -> Hint:
    """The key that an event points at; raises UnknownType or Malformed with a reason that a person understands."""
    noun = _NOUN_OF.get(happened.type)
    if noun is None:
        raise UnknownType(f"unknown event type {shown(happened.type)}")
    if happened.specversion != "1.0":
        raise Malformed(f"specversion is {shown(happened.specversion)}, not '1.0'")
    if not happened.id:
        raise Malformed("the event has no id")
    if not (_is_plain(happened.id, MOST_ID) and _is_plain(happened.time, MOST_TIME)):
        raise Malformed(_unkept(happened))
    if happened.traceparent and not _is_plain(happened.traceparent, MOST_TRACEPARENT):
        raise Malformed(_unkept(happened))
    return Hint(noun, _key(happened, noun), happened.id, happened.time, happened.traceparent)


def _is_plain(text: str, most: int) -> bool:
    return len(text) <= most and "\0" not in text


def _unkept(happened: Event) -> str:
    """Why a text of the event cannot be kept."""
    most = {"id": MOST_ID, "time": MOST_TIME, "traceparent": MOST_TRACEPARENT}
    name = next(name for name in most if not _is_plain(getattr(happened, name) or "", most[name]))
    if "\0" in getattr(happened, name):
        return f"the event's {name} has a NUL character, which PostgreSQL cannot keep"
    return f"the event's {name} has more than {most[name]} characters"


def shown(value: Any) -> str:
    """A foreign value as part of a sentence."""
    text = repr(value[:SHOWN] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]}…"


def _key(happened: Event, noun: str) -> int | None:
    if happened.type.endswith(".truncated"):
        return None
    said, _, number = happened.subject.partition("/")
    if said != noun:
        raise Malformed(f"subject {shown(happened.subject)} does not belong to type {happened.type!r}")
    if not _KEY.fullmatch(number) or not LEAST_BIGINT <= (key := int(number)) <= LARGEST_BIGINT:
        raise Malformed(f"subject {shown(happened.subject)} names no {noun} id")
    return key
