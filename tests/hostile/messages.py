"""Messages that nobody who means well sends, of every kind, for each place where the broker brings others' bytes in."""

from __future__ import annotations

import bz2
import json
import lzma
import random as randomness
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import amqp
from kombu import Connection

from events import contract, topology
from events.connection import LOST

CONTROL: Final = "celery.pidbox"  # an exchange: it reaches the control queue of every worker
TASK_QUEUES: Final = (topology.PATCHES, topology.MAINTENANCE)
EVENT_QUEUES: Final = (topology.UPDATER.name, topology.LOG_NAME)
QUEUES: Final = (*EVENT_QUEUES, topology.DEAD_LETTERS.name, *TASK_QUEUES, CONTROL)
JSON: Final = {"content_type": "application/json", "content_encoding": "utf-8"}
BATCH: Final = {"content_type": contract.BATCH}
GOOD_TASK: Final = "update_cities_product_count"
EVENTS_TASK: Final = "apply_catalog_events"
REPLAY_TASK: Final = "replay_events"
BOMBS: Final = ("gzip", "bzip2", "lzma")
BOMB_BYTES: Final = 2**28  # that some kilobytes unpack to
LARGE_BYTES: Final = 17 * 2**20  # more than RabbitMQ 4 takes

Headers = dict[Any, Any] | bytes  # bytes: a table as it goes over the wire, which no client would write


class Message(NamedTuple):
    """One message and where it goes."""

    queue: str
    kind: str  # in words
    properties: dict[str, Any]
    headers: Headers
    body: bytes


def messages(random: randomness.Random) -> Iterator[Message]:
    """Each kind once for each queue, in any order, with values by chance."""
    found = [
        *(message for queue in TASK_QUEUES for message in _calls(queue, random)),
        *(message for queue in EVENT_QUEUES for message in _events(queue, random)),
        *(message for queue in QUEUES for message in _anything(queue, random)),
        *_questions(random),
    ]
    random.shuffle(found)
    yield from found


def publish(broker: str, sent: Iterable[Message]) -> list[Message]:
    """Send them, each with its kind among its headers; those that the broker took, for it refuses some itself."""
    taken: list[Message] = []
    for message in sent:
        with suppress(*LOST):
            _send(_channel(broker), message)
            taken.append(message)
    return taken


def _send(channel: Any, message: Message) -> None:
    headers: Headers = message.headers
    if isinstance(headers, dict):
        headers = {"kind": message.kind, **headers}
    make = _Raw if isinstance(headers, bytes) else amqp.Message
    exchange, key = (CONTROL, "") if message.queue == CONTROL else ("", message.queue)
    made = make(message.body, application_headers=headers, delivery_mode=2, **message.properties)
    channel.basic_publish_confirm(made, exchange=exchange, routing_key=key)


_channels: dict[str, Any] = {}


def _channel(broker: str) -> Any:
    """The open one, or another."""
    channel = _channels.get(broker)
    if channel is None or not channel.is_open or not channel.connection.connected:
        channel = _channels[broker] = Connection(broker).channel()
        channel.confirm_select()
    return channel


class _Raw(amqp.Message):  # type: ignore[misc]
    """Its headers are bytes of the wire already."""

    def _serialize_properties(self) -> bytes:
        table = self.properties["application_headers"]
        content_type = str(self.properties.get("content_type") or "").encode()
        return struct.pack(">HB", 0xA000, len(content_type)) + content_type + struct.pack(">I", len(table)) + table


def is_wrong(message: Message) -> bool:
    """Whether somebody must be told of it: all but what a reader may take as well."""
    return not message.kind.startswith("good")


# Values


def wrong(random: randomness.Random) -> Any:
    """A JSON value that is hardly what was expected."""
    return random.choice(
        [
            5, -1, 1.5, True, "", "x", "\0", "\u2028", "a" * 100_000, 2**63, -(2**63) - 1, 10**400, [], [[]],
            [1, "2", None], {}, {"a": {"b": [1]}}, {"__type__": "datetime", "__value__": "no"}, nested(200),
            "2026-11-25", "0001-01-01T00:00",
        ]
    )  # fmt: skip


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def deep_table(depth: int = 3_000) -> bytes:
    """Tables in tables: `{"a": {"a": …}}`."""
    table = b""
    for _ in range(depth):
        table = b"\1aF" + struct.pack(">I", len(table)) + table
    return table


@cache
def bomb(name: str) -> bytes:
    """A small body that a library would unpack to `BOMB_BYTES` or more."""
    if name == "gzip":
        return zlib.compress(bytes(BOMB_BYTES))
    pack: Callable[[bytes], bytes] = {"bzip2": bz2.compress, "lzma": lzma.compress}[name]
    part = bytes(2**24)  # both unpack streams that follow each other
    return pack(part) * 128


def _uuid(random: randomness.Random) -> str:
    return str(UUID(int=random.getrandbits(128)))


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


# Calls of Celery's


def _calls(queue: str, random: randomness.Random) -> Iterator[Message]:
    for kind, body in _bodies(random):
        yield Message(queue, f"a body that is {kind}", dict(JSON), _head(random), body)
    for kind, headers in _heads(random):
        yield Message(queue, kind, dict(JSON), headers, _dump([[], {}, {}]))
    for kind, call in _old_calls(random):
        yield Message(queue, f"protocol 1 with {kind}", dict(JSON), {}, _dump(call))
    for kind, arguments in _arguments(random):
        headers = _head(random, EVENTS_TASK)
        yield Message(queue, f"hints that are {kind}", dict(JSON), headers, _dump([[], arguments, {}]))
    for kind, arguments in _ranges(random):
        body = _dump([[], {"dry_run": True} | arguments, {}])
        yield Message(queue, f"a replay {kind}", dict(JSON), _head(random, REPLAY_TASK), body)
    words = _dump([[], {"since": random.choice(["", "soon", "9999-12-31T23:59:59-14:00"])}, {}])
    yield Message(queue, "good: a run that fails in words", dict(JSON), _head(random, REPLAY_TASK), words)
    yield Message(queue, "good: headers that nobody knows", dict(JSON), _head(random) | {"x": [1, {"y": 2}]}, _CALL)
    yield Message(queue, "good: protocol 1", dict(JSON), {}, _dump(_old(random)))


_CALL: Final = _dump([[], {}, {}])


def _head(random: randomness.Random, task: str = GOOD_TASK) -> dict[Any, Any]:
    return {"task": task, "id": _uuid(random)}


def _old(random: randomness.Random) -> dict[str, Any]:
    return {"task": GOOD_TASK, "id": _uuid(random), "args": [], "kwargs": {}}


def _bodies(random: randomness.Random) -> Iterator[tuple[str, bytes]]:
    yield "a number", b"5"
    yield "empty", b""
    yield "null", b"null"
    yield "text", b'"x"'
    yield "an empty list", b"[]"
    yield "a short list", b"[[],{}]"
    yield "a long list", b"[[],{},{},{}]"
    yield "cut off", b"[[],{},"
    yield "not a number", b"[[],{},NaN]"
    yield "not UTF-8", b'["\xff",{},{}]'
    yield "nested deeply", b"[" * 100_000
    yield "larger than a call", b"[[],{}," + b" " * 2**21 + b"{}]"
    yield "a long number", b"9" * 10_000
    yield "args of another type", _dump([random.choice([5, "x", True, {"a": 1}]), {}, {}])
    yield "kwargs of another type", _dump([[], random.choice([5, "x", True, [1]]), {}])
    yield "embed of another type", _dump([[], {}, random.choice([5, "x", True, [1]])])
    yield "an argument too many", _dump([[wrong(random)], {}, {}])
    yield "an unknown argument", _dump([[], {"x": wrong(random)}, {}])
    for carried in ("callbacks", "errbacks", "chain", "chord"):
        yield f"a call with {carried}", _dump([[], {}, {carried: random.choice([5, [5], [{"task": GOOD_TASK}]])}])


def _heads(random: randomness.Random) -> Iterator[tuple[str, dict[Any, Any]]]:
    yield "an unknown task", _head(random, "clear_everything")
    yield "a task of Celery's own", _head(random, random.choice(["celery.map", "celery.chord_unlock", "celery.group"]))
    yield "a long task name", _head(random, "postgresql" * 6_000)
    yield "an address as task", _head(random, "a+" * 20_000 + "://u:p@h")
    yield "no id", {"task": GOOD_TASK}
    for name in ("task", "id", "root_id", "parent_id", "group", "origin", "shadow", "lang", "meth", "traceparent"):
        yield f"{name} of another type", _head(random) | {name: random.choice([5, True, 1.5, [1], {"a": 1}])}
    for name in ("expires", "eta", "retries", "timelimit", "trigger", "ignore_result", "argsrepr", "kwargsrepr", "utc"):
        odd = random.choice([[1], {"a": 1}, [[], []], {"a": [5]}])
        yield f"{name} of another type", _head(random) | {name: odd}
    yield "an id that is none", _head(random) | {"id": random.choice(["", "1", "x" * 36, "\0" * 36])}
    yield "expires that is no time", _head(random) | {"expires": random.choice(["tomorrow", "9999-99-99", "\0"])}
    yield "eta that is no time", _head(random) | {"eta": random.choice(["never", "2026-13-01T00:00:00", ""]) or "x"}
    for name in ("expires", "eta"):
        beyond = random.choice(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
        yield f"{name} of no year", _head(random) | {name: beyond}
    ahead = datetime.now(UTC) + timedelta(days=random.randint(1, 300_000))
    yield "eta ahead", _head(random) | {"eta": ahead.isoformat()}
    yield "eta ahead, naive", _head(random) | {"eta": ahead.replace(tzinfo=None).isoformat()}
    yield "many retries", _head(random) | {"retries": 2**62}
    yield "negative time limits", _head(random) | {"timelimit": [-1, -1]}
    yield "one time limit", _head(random) | {"timelimit": [1]}
    yield "a trigger that is none", _head(random) | {"trigger": "me"}


def _old_calls(random: randomness.Random) -> Iterator[tuple[str, Any]]:
    for name in ("task", "id", "args", "kwargs", "expires", "eta", "retries", "timelimit"):
        yield (
            f"{name} of another type",
            _old(random) | {name: random.choice([{"a": [5]}, [[5], 6]]) if name != "args" else 5},
        )
    yield "callbacks", _old(random) | {"callbacks": [{"task": GOOD_TASK}]}
    yield "no id", {"task": GOOD_TASK, "args": [], "kwargs": {}}
    yield "an unknown task", _old(random) | {"task": "x"}


def _arguments(random: randomness.Random) -> Iterator[tuple[str, Any]]:
    row = ["company", 1, "event", "2026-11-25T00:00:00Z", None]
    good: dict[str, Any] = {"hints": [row], "unreadable": [], "received_at": 1.0}

    def changed(place: int, value: Any) -> dict[str, Any]:
        return good | {"hints": [row, [*row[:place], value, *row[place + 1 :]]]}

    yield "of mixed times", changed(3, random.choice([5, None, 1.5, [], {}]))
    yield "of another noun", changed(0, random.choice(["shop", "", 5, None, []]))
    yield "of no id", changed(1, random.choice(["1", 1.5, True, 2**63, -(2**63) - 1, []]))
    yield "of no event", changed(2, random.choice([5, None, "\0", "x" * 100_000, {}]))
    yield "of no trace", changed(4, random.choice([5, [], "\0", {}]))
    yield "too short", good | {"hints": [row[:-1]]}
    yield "too long", good | {"hints": [[*row, 1]]}
    yield "no list", good | {"hints": random.choice([5, "company", {"a": 1}, None])}
    yield "not there", {"unreadable": [], "received_at": 1.0}
    yield "letters", good | {"unreadable": [{"kind": "failed", "reason": "x"}]}
    yield "from another time", good | {"received_at": random.choice(["now", -1, None, [], -1e300])}
    yield "with an object in them", good | {"parent": {"__type__": "uuid", "__value__": "no"}}


def _ranges(random: randomness.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    odd = random.choice(["\0", "2026-11-25T00:00:00Z\0", "x" * 500_000])
    yield "from no instant", {random.choice(["since", "until"]): odd}
    yield "from no offset", {"from_offset": random.choice([-1, 2**63, 10**40, 1.5, True, "1"])}


# Events


def _event(random: randomness.Random, **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": _uuid(random), "type": "catalog.company.updated", "source": "/elsewhere",
        "subject": f"company/{random.randint(1, 9)}", "time": "2026-11-25T00:00:00Z", "data": {}, **changes,
    }  # fmt: skip


def _events(queue: str, random: randomness.Random) -> Iterator[Message]:
    for name in ("specversion", "id", "type", "subject", "time", "data"):
        odd = [5, 1.5, True, [1]] + ([None] if name != "data" else [])  # without data it travels slim
        body = _dump([_event(random, **{name: random.choice(odd)})])
        yield Message(queue, f"an event whose {name} has another type", dict(BATCH), {}, body)
        lacking = {key: value for key, value in _event(random).items() if key != name}
        yield Message(queue, f"an event without {name}", dict(BATCH), {}, _dump([lacking]))
    for name in ("id", "type", "subject", "time", "traceparent"):
        body = _dump([_event(random, **{name: random.choice(["\0", "x" * 1_000_000])})])
        yield Message(queue, f"an event whose {name} is no such text", dict(BATCH), {}, body)
    yield Message(queue, "a million numbers", dict(BATCH), {}, b"[" + b"1," * 2**20 + b"1]")
    yield Message(queue, "many numbers", dict(BATCH), {}, b"[" + b"1," * 100_000 + b"1]")
    yield Message(queue, "many events of no type", dict(BATCH), {}, _dump([_event(random, type="x")] * 5_000))
    yield Message(queue, "a large list of events", dict(BATCH), {}, _dump([_event(random)] * 20_000))
    yield Message(queue, "a batch that is no list", dict(BATCH), {}, _dump(random.choice([5, "x", {}, None, True])))
    yield Message(queue, "nested deeply", dict(BATCH), {}, b"[" * 100_000)
    yield Message(
        queue, "good: an event beside odd headers", dict(BATCH), {"x": [1, {"y": 2}]}, _dump([_event(random)])
    )


# What may come anywhere


def _anything(queue: str, random: randomness.Random) -> Iterator[Message]:
    kind = BATCH if queue in EVENT_QUEUES else JSON
    head = {} if queue in EVENT_QUEUES else _head(random)
    for name in BOMBS:
        yield Message(queue, f"a bomb of {name}", dict(kind), head | {"compression": name}, bomb(name))
    for odd in (5, "none", [1], {"a": 1}, "application/x-brotli"):
        yield Message(queue, f"compression {odd}", dict(kind), head | {"compression": odd}, b"x")
    if queue in (topology.UPDATER.name, topology.MAINTENANCE):  # a small broker has no memory for more of them
        yield Message(queue, "a body of 17 MiB", dict(kind), head, b" " * LARGE_BYTES)
    for content_type in ("application/x-python-serialize", "application/x-yaml", "application/data", "", "\xff"):
        yield Message(queue, f"content type {content_type!r}", {"content_type": content_type}, dict(head), b"x")
    for encoding in ("binary", "utf-16", "no such", "\xff"):
        properties = {"content_type": "application/json", "content_encoding": encoding}
        yield Message(queue, f"encoding {encoding!r}", properties, dict(head), b"\xff\xfe")
    yield Message(queue, "tables nested deeply", dict(kind), deep_table(), b"x")
    yield Message(queue, "a date of no calendar", dict(kind), b"\1aT" + struct.pack(">Q", 2**63), b"x")
    yield Message(queue, "a header of no text", dict(kind), b"\2\xff\xfeS" + struct.pack(">I", 2) + b"\xff\xfe", b"x")
    yield Message(queue, "a thousand headers", dict(kind), {f"h{number}": "x" * 50 for number in range(1_000)}, b"x")
    yield Message(queue, "numbers that are none", dict(kind), {"a": float("nan"), "b": float("inf")}, b"x")
    yield Message(queue, "an object in headers", dict(kind), {"__type__": "datetime", "__value__": "no"}, b"x")
    yield Message(queue, "headers of the broker's", dict(kind), _forged(random), b"x")
    for name in ("reply_to", "correlation_id", "message_id", "type", "app_id"):
        yield Message(queue, f"{name} of no text", {**kind, name: b"\xff\xfe\0"}, dict(head), b"x")


def _forged(random: randomness.Random) -> dict[Any, Any]:
    odd = [[], [5], [{}], ["x"], [{"queue": [5], "reason": {}}], 5, "x"]
    return {
        "x-death": random.choice(odd), "x-delivery-count": random.choice([-1, "x", [], True]),
        "x-stream-offset": random.choice([-5, "x", [], 2**62]), "x-citycache-unreadable": random.choice([5, "x", []]),
        "traceparent": random.choice([5, "", "\0", []]),
    }  # fmt: skip


# Questions


def _questions(random: randomness.Random) -> Iterator[Message]:
    for method in COMMANDS:
        yield _question(f"the command {method}", {"method": method, "arguments": {}})
    for name in ("method", "arguments", "destination", "reply_to", "ticket", "pattern", "matcher"):
        yield _question(f"{name} of another type", {"method": "ping"} | {name: wrong(random)})
    yield _question("an unknown command", {"method": "x" * 60_000})
    yield _question("an answer to elsewhere", {"method": "ping", "reply_to": ANSWERS_TO_EVENTS, "ticket": "t"})
    yield _question("a pattern that takes for ever", {"method": "ping", "pattern": "(a+)+$" * 50, "matcher": "pcre"})
    yield _question("arguments that nobody knows", {"method": "ping", "arguments": {"x": wrong(random)}})
    for body in (b"5", b"null", b"[]", b'"x"', b"", b"{", b"[" * 100_000, b"[" + b"1," * 1_000_000 + b"1]"):
        yield Message(CONTROL, f"a question that is {body[:6]!r}", dict(JSON), {}, body)
    yield Message(CONTROL, "a clock of another type", dict(JSON), {"clock": "x"}, _dump({"method": "ping"}))
    yield Message(CONTROL, "a clock ahead", dict(JSON), {"clock": 2**62}, _dump({"method": "ping"}))


def _question(kind: str, content: dict[str, Any]) -> Message:
    return Message(CONTROL, kind, dict(JSON), {"clock": 1, "expires": 0}, _dump(content))


def answers(random: randomness.Random, ticket: Any) -> Iterator[tuple[dict[str, Any], dict[Any, Any], bytes]]:
    """Properties, headers and body of answers to a question, as no worker would give them."""
    head = {"ticket": ticket, "clock": 1}
    held: dict[str, Any] = {"messages": 1, "oldest": None, "newest": None, "because": []}
    for _ in range(20):
        yield dict(JSON), head, _dump(random.choice([wrong(random), {"w": wrong(random)}]))
    for name in held:
        yield dict(JSON), head, _dump({"w": held | {name: random.choice([5.5, -1, True, [5], {"a": 1}, [{}], [None]])}})
    for reason in ({"reason": 5}, {"reason": "x", "since": "never", "sentence": []}, {"sentence": "y" * 100_000}):
        yield dict(JSON), head, _dump({"w": held | {"because": [reason]}})
    for body in (b"", b"{", b"[" * 100_000, b"9" * 10_000, b"\xff", b"[" + b"1," * 1_000_000 + b"1]"):
        yield dict(JSON), head, body
    for odd in ({"clock": "x"}, {"clock": 2**62}, {"clock": []}, {"expires": "x"}, {"expires": []}, {"ticket": [5]}):
        yield dict(JSON), head | odd, _dump({"w": held | {"messages": "1"}})
    for name in BOMBS:
        yield dict(JSON), head | {"compression": name}, bomb(name)
    for content_type in ("application/x-python-serialize", "application/x-yaml", ""):
        yield {"content_type": content_type}, head, b"x"
    yield {"content_type": "application/json", "content_encoding": "utf-16"}, head, b"\xff\xfe"


ANSWERS_TO_EVENTS: Final = {"exchange": "catalog.events", "routing_key": "catalog.company.updated"}
COMMANDS: Final = (
    "shutdown", "pool_grow", "pool_shrink", "pool_restart", "autoscale", "cancel_consumer", "add_consumer",
    "rate_limit", "time_limit", "revoke", "revoke_by_stamped_headers", "terminate", "enable_events",
    "disable_events", "election", "heartbeat", "hello", "memdump", "memsample", "objgraph", "conf",
    "report", "dump_conf",
)  # fmt: skip
