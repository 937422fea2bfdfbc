"""The gate before Celery's queues: foreign bytes become a checked call of one of our tasks, or a reason why not.

Celery takes a message apart piece by piece, in strategies, requests and the child, and whatever surprises it on the
way ends the worker. So a message is read here as a whole, and Celery gets one that is written anew from what was
understood: the task, its id, its arguments by name and by the types of its signature, expiry, trigger and trace.
Both protocols of Celery are read. Nothing else of a message reaches a run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Final, Literal, get_type_hints
from uuid import UUID

import msgspec
from kombu.message import Message

from events import contract, foreign
from events.contract import shown
from events.errors import Malformed

MOST_BYTES: Final = 2**20  # of a body; our own have some hundred
ENCODINGS: Final = ("utf-8", "utf8", "us-ascii", "ascii")
JSON: Final = "application/json"
CARRIED: Final = ("callbacks", "errbacks", "chain", "chord")  # what Celery would publish in our name after a run

Short = Annotated[str, msgspec.Meta(max_length=255, pattern=r"^[^\x00]*$")]
Text = Annotated[str, msgspec.Meta(max_length=65_536)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Envelope(msgspec.Struct, frozen=True):
    """What a message says of its call beside the arguments. What is not used any further has its type all the same."""

    task: Short
    id: UUID
    expires: datetime | None = None
    eta: datetime | None = None
    trigger: Literal["api", "beat", "event", "replay", "cli"] | None = None
    traceparent: Short | None = None
    retries: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    timelimit: tuple[Seconds | None, Seconds | None] | None = None
    ignore_result: bool | None = None
    root_id: Short | None = None
    parent_id: Short | None = None
    group: Short | None = None
    lang: Short | None = None
    meth: Short | None = None
    origin: Short | None = None
    shadow: Short | None = None
    argsrepr: Text | None = None
    kwargsrepr: Text | None = None
    utc: bool | None = None


def checked(message: Any, tasks: Mapping[str, Any], now: datetime | None = None) -> Message:
    """The same call in a message that Celery takes as it is; raises Malformed."""
    content = _content(message)
    envelope, arguments, keywords = _call(content, message.headers)
    task = tasks.get(envelope.task)
    if task is None or envelope.task.startswith("celery."):
        raise Malformed(f"there is no task {shown(envelope.task)}")
    if envelope.eta is not None and _aware(envelope.eta) > (now or datetime.now(UTC)):
        raise Malformed("a run cannot be put off: eta lies ahead")
    return _anew(message, envelope, _arguments(task.run, arguments, keywords))


def _content(message: Any) -> Any:
    """The decoded body."""
    headers = message.headers
    if reason := foreign.unreadable(headers):
        raise Malformed(reason)
    if headers.get("compression"):
        raise Malformed(f"compressed bodies ({shown(headers['compression'])}) are not unpacked")
    if len(message.body) > MOST_BYTES:
        raise Malformed(f"the body has {len(message.body):,} bytes, more than {MOST_BYTES:,}")
    if message.content_type != JSON:
        raise Malformed(f"content type {shown(message.content_type)} is not {JSON}")
    if str(message.content_encoding or ENCODINGS[0]).lower() not in ENCODINGS:
        raise Malformed(f"content encoding {shown(message.content_encoding)} is not {ENCODINGS[0]}")
    try:
        return msgspec.json.decode(message.body)
    except contract.UNREADABLE as failure:
        raise Malformed(f"the body is not JSON: {failure}") from failure


def _call(content: Any, headers: Mapping[Any, Any]) -> tuple[Envelope, Any, Any]:
    """Envelope, positional and named arguments."""
    said: Mapping[Any, Any] = headers
    if isinstance(content, dict):  # protocol 1, and the mixture that Celery knows
        said, arguments, keywords, carried = {**content, **headers}, content.get("args"), content.get("kwargs"), content
    elif isinstance(content, list) and len(content) == 3:  # protocol 2
        arguments, keywords, carried = content
    else:
        raise Malformed(f"the body is not a call, which is [args, kwargs, embed], but {shown(content)}")
    if not isinstance(carried, dict | None):
        raise Malformed(f"what the call carries is {shown(carried)}, not an object")
    if extra := [name for name in CARRIED if (carried or {}).get(name)]:
        raise Malformed(f"a call carries no {', '.join(extra)} here")
    return _envelope(said), arguments or [], keywords or {}


def _envelope(said: Mapping[Any, Any]) -> Envelope:
    known = {name: said[name] for name in Envelope.__struct_fields__ if said.get(name) is not None}
    try:
        return msgspec.convert(known, Envelope)
    except msgspec.ValidationError as failure:
        raise Malformed(f"the call's headers: {failure}") from failure


def _arguments(run: Callable[..., Any], arguments: Any, keywords: Any) -> dict[str, Any]:
    """By name, each as the task's signature wants it."""
    kind = signature(run)
    if not isinstance(arguments, Sequence) or isinstance(arguments, str) or not isinstance(keywords, dict):
        raise Malformed("args is not a list, or kwargs not an object")
    if len(arguments) > len(kind.__struct_fields__):
        raise Malformed(f"{len(arguments)} positional arguments, more than {len(kind.__struct_fields__)}")
    placed = dict(zip(kind.__struct_fields__, arguments, strict=False))
    if twice := placed.keys() & keywords.keys():
        raise Malformed(f"the argument {shown(min(twice))} is given twice")
    try:
        msgspec.convert(placed | keywords, kind)
    except (msgspec.ValidationError, RecursionError) as failure:
        raise Malformed(f"the call's arguments: {failure}") from failure
    return placed | keywords


@cache
def signature(run: Callable[..., Any]) -> type[msgspec.Struct]:
    """The arguments of a task, with their types and bounds."""
    types = get_type_hints(run, include_extras=True)
    fields: list[Any] = [
        (name, types[name]) if parameter.default is parameter.empty else (name, types[name], parameter.default)
        for name, parameter in inspect.signature(run).parameters.items()
    ]
    return msgspec.defstruct("Arguments", fields, forbid_unknown_fields=True, kw_only=True)


def _anew(message: Any, envelope: Envelope, arguments: dict[str, Any]) -> Message:
    headers: Any = {
        "lang": "py",
        "task": envelope.task,
        "id": str(envelope.id),
        "root_id": str(envelope.id),
        "expires": _aware(envelope.expires).isoformat() if envelope.expires else None,
        "retries": 0,
        "trigger": envelope.trigger,
        "traceparent": envelope.traceparent,
        "argsrepr": "()",
        "kwargsrepr": f"{len(arguments)} arguments",
    }
    body: Any = msgspec.json.encode([[], arguments, {}])
    return Message(
        body=body, content_type=JSON, content_encoding=ENCODINGS[0],
        headers=headers, delivery_info=message.delivery_info, delivery_tag=message.delivery_tag,
        channel=message.channel, accept={JSON},
    )  # fmt: skip


def _aware(instant: datetime) -> datetime:
    """Celery takes a naive time as UTC. Raises Malformed for one that lies in no year of UTC's."""
    try:
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except OverflowError:
        raise Malformed(f"{instant.isoformat()} lies beyond the years 1 to 9999 in UTC") from None
